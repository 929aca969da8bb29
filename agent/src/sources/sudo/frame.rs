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
    #[error("the rest of a message did not come within {} s", MESSAGE_WAIT.as_secs())]
    Slow,
}

/// Largest message, in bytes. Source: sudo_logsrv.proto(5), 2 MiB.
pub(super) const MESSAGE_BYTES_MAX: u32 = 2 * 1024 * 1024;

/// The rest of a message that began takes at most this long, and an answer as long to be taken.
const MESSAGE_WAIT: Duration = Duration::from_secs(10);

/// The next message with its bytes; `None` at an orderly end. Between messages a command runs: that takes as long as it does.
pub(super) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Result<Option<(ClientMessage, Bytes)>, FrameError> {
    let length = match stream.read_u32().await {
        Ok(length) => length,
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(FrameError::Broken(error)),
    };
    if length > MESSAGE_BYTES_MAX {
        return Err(FrameError::TooLarge { bytes: length });
    }
    let mut bytes = Vec::new();
    // Grows with what comes, not with what is announced.
    let mut rest = stream.take(u64::from(length));
    let received = tokio::time::timeout(MESSAGE_WAIT, rest.read_to_end(&mut bytes)).await;
    received.map_err(|_| FrameError::Slow)?.map_err(FrameError::Broken)?;
    if u32::try_from(bytes.len()) != Ok(length) {
        return Err(FrameError::Broken(std::io::ErrorKind::UnexpectedEof.into()));
    }
    let bytes = Bytes::from(bytes);
    let message = ClientMessage::decode(bytes.clone()).map_err(|_| FrameError::Malformed)?;
    Ok(Some((message, bytes)))
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
