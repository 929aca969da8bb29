//! 2, 3: what expands, and what does not parse.

use edgetrail_link::uplink::channel;
use edgetrail_link::wire::{self, RefusalReason, from_collector};
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::{Request, Status};

use crate::abused::Abused;
use crate::rogue::{Rogue, RogueStream, block_on};

/// Zeros, compressed a thousand to one.
fn gzip_bomb() -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    let zeros = vec![0; 1 << 20];
    (0..128).for_each(|_| gzip.write_all(&zeros).unwrap());
    gzip.finish().unwrap()
}

/// RFC 8878: a window of 128 MiB and a gibibyte of one byte in runs of 128 KiB, without the size in front.
fn zstd_bomb() -> Vec<u8> {
    let mut bytes = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 17 << 3];
    for number in 0..8192u32 {
        let block = u32::from(number == 8191) | 1 << 1 | (128 * 1024) << 3;
        bytes.extend_from_slice(&block.to_le_bytes()[..3]);
        bytes.push(0);
    }
    bytes
}

fn swapped(stream: &mut RogueStream, encoding: wire::Encoding, body: Vec<u8>, body_bytes: u32) -> wire::Batch {
    wire::Batch { encoding: encoding.into(), body: body.into(), body_bytes, ..stream.clone().batch(&["Bomb"]) }
}

#[test]
fn t02_what_expands_beyond_a_batch_is_refused_before_it_does() {
    let abused = Abused::start();
    let (gzip, zstd) = (gzip_bomb(), zstd_bomb());
    let mut nested = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    nested.write_all(&gzip).unwrap();
    let nested = nested.finish().unwrap();
    abused.withstands(|| {
        block_on(async {
            let rogue = Rogue::join(&abused.deployment).await;
            let mut stream = rogue.stream();
            drop(rogue.opened(&stream).await);
            use wire::Encoding::{Gzip, Identity, Zstd};
            let claims = [4096, 1 << 20, u32::MAX];
            let bombs = [(Gzip, &gzip), (Zstd, &zstd), (Gzip, &nested), (Identity, &gzip)];
            for (encoding, bomb) in bombs {
                for claim in claims {
                    let mut conversation = rogue.resumed().await;
                    conversation.batch(swapped(&mut stream, encoding, bomb.clone(), claim)).await;
                    conversation.refused(RefusalReason::Chain).await;
                }
            }
            for _ in 0..64 {
                let mut conversation = rogue.resumed().await;
                conversation.batch(swapped(&mut stream, Zstd, zstd.clone(), 1 << 20)).await;
                conversation.refused(RefusalReason::Chain).await;
            }
            // The stream itself is unharmed.
            let mut conversation = rogue.resumed().await;
            conversation.batch(stream.batch(&["AfterBombs"])).await;
            conversation.receipted().await;
        });
    });
}

/// Sends bytes as messages, whatever they are.
#[derive(Clone, Copy, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = ();
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        bytes::BufMut::put_slice(buffer, &item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = ();
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<()>, Status> {
        use bytes::Buf;
        buffer.advance(buffer.remaining());
        Ok(Some(()))
    }
}

/// The first answer to these bytes: none, or the status that ended the session.
async fn raw(rogue: &Rogue, message: Vec<u8>) -> Result<Option<()>, Status> {
    let tls = Arc::clone(&rogue.enrollment.credentials().unwrap().tls);
    let mut client = tonic::client::Grpc::new(channel(&rogue.endpoint, tls).await.unwrap());
    client.ready().await.unwrap();
    let path = "/edgetrail.v1.Ingest/Attach".parse().unwrap();
    let request = Request::new(tokio_stream::once(message));
    let answered = client.streaming(request, path, Raw).await?;
    tokio::time::timeout(Duration::from_secs(20), answered.into_inner().message()).await.expect("an end in time")
}

#[test]
fn t03_malformed_messages_end_their_session_and_nothing_else() {
    let abused = Abused::start();
    // Field 1 of FromAgent is a resume, length-delimited.
    let resume = |inner: &[u8]| {
        let mut message = vec![0x0a];
        let mut length = inner.len();
        while length >= 0x80 {
            message.push(u8::try_from(length & 0x7f).unwrap() | 0x80);
            length >>= 7;
        }
        message.push(u8::try_from(length).unwrap());
        [message, inner.to_vec()].concat()
    };
    let unknown = [vec![0xfa, 0x07, 0x80, 0x80, 0xe0, 0x01], vec![0; 7 << 19]].concat();
    let refused = [
        ("nesting", resume(&[0x23].repeat(10_000))),
        ("a length of 2^31", vec![0x0a, 0x80, 0x80, 0x80, 0x80, 0x08]),
        ("a length of 2^63", vec![0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]),
        ("an endless varint", vec![0xff; 64]),
        ("invalid UTF-8", resume(&[0x0a, 2, 0xff, 0xfe])),
        ("a wrong wire type", vec![0x08, 1]),
        ("five mebibytes", vec![0; 5 << 20]),
    ];
    abused.withstands(|| {
        block_on(async {
            let rogue = Rogue::join(&abused.deployment).await;
            for (what, message) in &refused {
                // A refusal comes as a message before the end, or the end is a status; an agent is never resumed by these.
                let answer = raw(&rogue, message.clone()).await;
                assert!(matches!(answer, Ok(None) | Err(_)), "{what}: {answer:?}");
            }
            for message in [unknown.clone(), Vec::new()] {
                assert!(matches!(raw(&rogue, message).await, Ok(Some(()))), "an empty message is answered with a refusal");
            }
            // The last of duplicate scalars counts, as protobuf says.
            assert!(raw(&rogue, resume(&[0x0a, 1, b'a', 0x0a, 1, b'b'])).await.is_ok());
            let mut conversation = rogue.attach().await.unwrap();
            conversation.batch(wire::Batch::default()).await;
            assert!(matches!(conversation.hear().await, Some(from_collector::Message::Refusal(_))), "a resume comes first");
            let mut stream = rogue.stream();
            let mut conversation = rogue.opened(&stream).await;
            conversation.batch(stream.batch(&["AfterGarbage"])).await;
            conversation.receipted().await;
        });
    });
}
