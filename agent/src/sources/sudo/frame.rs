//! Messages on a connection: a length as u32, big-endian, then the message.

use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::message::{ClientMessage, Server, ServerMessage};

/// Why a conversation ends.
#[derive(Debug, thiserror::Error)]
pub(super) enum FrameError {
    #[error("a message of {bytes} bytes, more than {MESSAGE_BYTES_MAX}")]
    TooLarge { bytes: u32 },
    #[error("no message of sudo's log server protocol: is the other end sudo?")]
    Malformed,
    #[error("the connection broke: {0}")]
    Broken(std::io::Error),
    #[error("the connection ended within a message: what it was to tell is not recorded")]
    Unfinished,
    #[error("the rest of a message did not come within {} s", MESSAGE_WAIT.as_secs())]
    Slow,
}

/// Largest message, in bytes. Source: sudo_logsrv.proto(5), 2 MiB.
pub(super) const MESSAGE_BYTES_MAX: u32 = 2 * 1024 * 1024;

/// The rest of a message that began takes at most this long, and an answer as long to be taken.
const MESSAGE_WAIT: Duration = Duration::from_secs(10);

/// The next message with its bytes; `None` at an orderly end. Between messages a command runs: that takes as long as it does.
pub(super) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Result<Option<(ClientMessage, Bytes)>, FrameError> {
    let Some(length) = length(stream).await? else { return Ok(None) };
    if length > MESSAGE_BYTES_MAX {
        return Err(FrameError::TooLarge { bytes: length });
    }
    let mut bytes = Vec::new();
    // Grows with what comes, not with what is announced.
    let mut rest = stream.take(u64::from(length));
    let received = tokio::time::timeout(MESSAGE_WAIT, rest.read_to_end(&mut bytes)).await;
    received.map_err(|_| FrameError::Slow)?.map_err(FrameError::Broken)?;
    if u32::try_from(bytes.len()) != Ok(length) {
        return Err(FrameError::Unfinished);
    }
    let bytes = Bytes::from(bytes);
    let message = ClientMessage::decode(bytes.clone()).map_err(|_| FrameError::Malformed)?;
    Ok(Some((message, bytes)))
}

/// The length before a message; `None` where the connection ended before its first byte.
async fn length(stream: &mut (impl AsyncRead + Unpin)) -> Result<Option<u32>, FrameError> {
    let mut prefix = [0; 4];
    let (first, rest) = prefix.split_at_mut(1);
    if stream.read(first).await.map_err(FrameError::Broken)? == 0 {
        return Ok(None);
    }
    let received = tokio::time::timeout(MESSAGE_WAIT, stream.read_exact(rest)).await;
    match received.map_err(|_| FrameError::Slow)? {
        Ok(_) => Ok(Some(u32::from_be_bytes(prefix))),
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Err(FrameError::Unfinished),
        Err(error) => Err(FrameError::Broken(error)),
    }
}

/// Says something to sudo.
pub(super) async fn write(stream: &mut (impl AsyncWrite + Unpin), kind: Server) -> Result<(), FrameError> {
    let message = ServerMessage { kind: Some(kind) }.encode_to_vec();
    let length = u32::try_from(message.len()).unwrap_or_default();
    let framed = [&length.to_be_bytes()[..], &message].concat();
    let written = async {
        stream.write_all(&framed).await?;
        stream.flush().await
    };
    tokio::time::timeout(MESSAGE_WAIT, written).await.map_err(|_| FrameError::Slow)?.map_err(FrameError::Broken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_a_connection_that_ends_between_messages_ends_orderly() {
        let message = ClientMessage { kind: Some(super::super::message::Client::Hello(Default::default())) }.encode_to_vec();
        let frame = [&u32::try_from(message.len()).unwrap().to_be_bytes()[..], &message].concat();
        for end in 0..=frame.len() {
            let mut bytes = &frame[..end];
            let read = read(&mut bytes).await;
            let is_as_expected = match end {
                0 => matches!(read, Ok(None)),
                end if end == frame.len() => matches!(read, Ok(Some(_))),
                _ => matches!(read, Err(FrameError::Unfinished)),
            };
            assert!(is_as_expected, "cut at {end}: {read:?}");
        }
    }
}
