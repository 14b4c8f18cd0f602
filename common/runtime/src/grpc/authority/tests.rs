use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use futures_util::task::noop_waker;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio_stream::StreamExt as _;
use tonic::service::Routes;
use tonic::transport::Server;
use tower::util::MapRequestLayer;

use super::*;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const SETTINGS: u8 = 4;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const RST_STREAM: u8 = 3;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A request as `client` writes it: POST, http, a path that isn't indexed, then the authority.
fn block(authority: &[u8]) -> Vec<u8> {
    [
        &[0x83, 0x86, 0x04, 2][..],
        b"/x",
        authority,
        b"\x00\x02te\x08trailers",
    ]
    .concat()
}

fn literal(name: &[u8], value: &[u8]) -> Vec<u8> {
    [name, &[u8::try_from(value.len()).unwrap()], value].concat()
}

/// The first request of each client and what must stand there instead. The second names it by dynamic index 62.
fn clients() -> Vec<(&'static str, Vec<u8>, Vec<u8>)> {
    let by_name = b"\x40\x0a:authority";
    vec![
        (
            "gRPC C core",
            literal(by_name, b"run%2Fexample%2Fagent.sock"),
            literal(by_name, b"run-2Fexample-2Fagent.sock"),
        ),
        (
            "Java",
            literal(&[0x41], b"/run/example/agent.sock"),
            literal(&[0x41], b"-run-example-agent.sock"),
        ),
        (
            "Go",
            literal(&[0x41], b"localhost"),
            literal(&[0x41], b"localhost"),
        ),
        (
            "Envoy",
            literal(&[0x41], b"spire_agent"),
            literal(&[0x41], b"spire_agent"),
        ),
        (
            "Huffman",
            [&[0x41, 0x80 | 3][..], &huffman::encode(b"/a/b")].concat(),
            [&[0x41, 0x80 | 3][..], &huffman::encode(b"-a-b")].concat(),
        ),
        // Fifteen bits each become six: the frame shrinks.
        (
            "Huffman, shorter",
            [&[0x41, 0x80 | 6][..], &huffman::encode(b"<<<")].concat(),
            [&[0x41, 0x80 | 3][..], &huffman::encode(b"---")].concat(),
        ),
    ]
}

/// Two requests of a client on one connection; the header block of the first cut into frames of `pieces` bytes.
fn connection(authority: &[u8], pieces: usize) -> Vec<u8> {
    let mut bytes = [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat();
    let first = block(authority);
    let last = first.chunks(pieces).count() - 1;
    for (index, piece) in first.chunks(pieces).enumerate() {
        let kind = if index == 0 { HEADERS } else { CONTINUATION };
        let end_stream = if index == 0 { END_STREAM } else { 0 };
        bytes.extend(frame(
            kind,
            end_stream | if index == last { END_HEADERS } else { 0 },
            1,
            piece,
        ));
    }
    bytes.extend(frame(0, 0, 3, b"/not/a/header"));
    bytes.extend(frame(HEADERS, END_STREAM | END_HEADERS, 3, &block(&[0xbe])));
    bytes
}

/// Gives `chunks` one read each, and counts how often it was asked after the end.
struct Chunks(VecDeque<Vec<u8>>);

impl AsyncRead for Chunks {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(mut chunk) = self.0.pop_front() {
            let rest = chunk.split_off(chunk.len().min(buf.remaining()));
            buf.put_slice(&chunk);
            if !rest.is_empty() {
                self.0.push_front(rest);
            }
        }
        Poll::Ready(Ok(()))
    }
}

fn through(chunks: impl IntoIterator<Item = Vec<u8>>, buffer: usize) -> Vec<u8> {
    let chunks = chunks.into_iter().filter(|chunk| !chunk.is_empty()).collect();
    let mut mend = MendAuthority::new(Chunks(chunks));
    let waker = noop_waker();
    let mut cx = Context::from_waker(&waker);
    let mut out = Vec::new();
    loop {
        let mut bytes = vec![0; buffer];
        let mut buf = ReadBuf::new(&mut bytes);
        assert!(Pin::new(&mut mend).poll_read(&mut cx, &mut buf).is_ready());
        if buf.filled().is_empty() {
            return out;
        }
        out.extend_from_slice(buf.filled());
    }
}

#[test]
fn each_client_cut_at_every_byte() {
    for (client, given, wanted) in clients() {
        let given = connection(&given, 1_000);
        let wanted = connection(&wanted, 1_000);
        for cut in 0..=given.len() {
            let chunks = [given[..cut].to_vec(), given[cut..].to_vec()];
            assert_eq!(through(chunks, 8_192), wanted, "{client} cut at {cut}");
        }
        for buffer in [1, 2, 7, 8_192] {
            assert_eq!(
                through(given.chunks(1).map(<[u8]>::to_vec), buffer),
                wanted,
                "{client} byte by byte"
            );
            assert_eq!(
                through([given.clone()], buffer),
                wanted,
                "{client} in a buffer of {buffer}"
            );
        }
    }
}

#[test]
fn header_blocks_in_several_frames() {
    for (client, given, wanted) in clients().into_iter().take(5) {
        for pieces in 5..40 {
            let given = connection(&given, pieces);
            let wanted = connection(&wanted, pieces);
            assert_eq!(
                through([given.clone()], 8_192),
                wanted,
                "{client} in pieces of {pieces}"
            );
            assert_eq!(
                through(given.chunks(5).map(<[u8]>::to_vec), 64),
                wanted,
                "{client} in pieces of {pieces}"
            );
        }
    }
}

#[test]
fn padding_and_priority_are_no_part_of_the_block() {
    let wrap = |authority: &[u8]| {
        let payload = [&[3, 0, 0, 0, 0, 16][..], &block(authority), &[0; 3]].concat();
        [
            PREFACE,
            &frame(HEADERS, END_STREAM | END_HEADERS | 0x8 | 0x20, 1, &payload),
        ]
        .concat()
    };
    for (client, given, wanted) in clients() {
        assert_eq!(through([wrap(&given)], 8_192), wrap(&wanted), "{client}");
    }
}

#[test]
fn what_cannot_be_read_passes_as_it_is() {
    let bad = literal(&[0x41], b"/a");
    let start = || PREFACE.to_vec();
    let after = |bytes: Vec<u8>| {
        [
            start(),
            bytes,
            frame(
                HEADERS,
                END_STREAM | END_HEADERS,
                5,
                &block(&literal(&[0x41], b"/b")),
            ),
        ]
        .concat()
    };
    let mut flood = frame(HEADERS, 0, 1, &block(&bad));
    for _ in 0..17 {
        flood.extend(frame(CONTINUATION, 0, 1, &[]));
    }
    let mut large = frame(HEADERS, 0, 1, &block(&bad));
    for _ in 0..4 {
        large.extend(frame(CONTINUATION, 0, 1, &[0x86; 16_384]));
    }
    for bytes in [
        [
            b"GET / HTTP/1.1\r\n\r\n".to_vec(),
            frame(HEADERS, END_HEADERS, 1, &block(&bad)),
        ]
        .concat(),
        after(frame(
            HEADERS,
            END_HEADERS,
            1,
            &[&block(&bad)[..], &[0x41]].concat(),
        )),
        after(frame(HEADERS, END_HEADERS | 0x8, 1, &[200, 1, 2])),
        after(frame(HEADERS, END_HEADERS, 1, &[0; 16_385])),
        after(
            [
                frame(HEADERS, 0, 1, &block(&bad)),
                frame(CONTINUATION, END_HEADERS, 3, &[]),
            ]
            .concat(),
        ),
        after([frame(HEADERS, 0, 1, &block(&bad)), frame(0, 0, 1, &[])].concat()),
        after(flood),
        after(large),
        // Ended within a frame header, and within a block.
        [start(), vec![0, 0, 1]].concat(),
        [start(), frame(HEADERS, 0, 1, &block(&bad))].concat(),
    ] {
        assert_eq!(through([bytes.clone()], 8_192), bytes);
        assert_eq!(through(bytes.chunks(100).map(<[u8]>::to_vec), 64), bytes);
    }
}

#[test]
fn mutated_streams_neither_panic_nor_grow() {
    let mut random = StdRng::seed_from_u64(3);
    for round in 0..30_000 {
        let clients = clients();
        let (_, given, _) = &clients[round % clients.len()];
        let mut bytes = connection(given, random.random_range(3..60));
        for _ in 0..random.random_range(0..4) {
            let at = random.random_range(PREFACE.len()..bytes.len());
            match random.random_range(0..3) {
                0 => bytes[at] = random.random(),
                1 => drop(bytes.remove(at)),
                _ => bytes.insert(at, random.random()),
            }
        }
        let whole = through([bytes.clone()], 8_192);
        let cut = random.random_range(1..20);
        assert_eq!(
            whole,
            through(bytes.chunks(cut).map(<[u8]>::to_vec), 33),
            "however it is cut: {bytes:x?}"
        );
        assert!(whole.len() <= bytes.len());
        assert_eq!(
            through([whole.clone()], 8_192),
            whole,
            "mending twice changes nothing: {bytes:x?}"
        );
    }
}

/// What a tonic server answers to `bytes`: the authorities it saw, and the streams it reset.
async fn served(bytes: Vec<u8>) -> (Vec<String>, Vec<u32>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let layer = MapRequestLayer::new(move |request: http::Request<tonic::body::Body>| {
        log.lock()
            .unwrap()
            .extend(request.uri().authority().map(ToString::to_string));
        request
    });
    let (mut client, server) = tokio::io::duplex(65_536);
    let incoming =
        tokio_stream::once(Ok::<_, io::Error>(MendAuthority::new(server))).chain(tokio_stream::pending());
    let serving = Server::builder()
        .layer(layer)
        .add_routes(Routes::default())
        .serve_with_incoming(incoming);
    let talking = async {
        client.write_all(&bytes).await.unwrap();
        let mut reset = Vec::new();
        let mut answered = 0;
        while answered + reset.len() < 2 {
            let (kind, stream, _) = next_frame(&mut client).await;
            match kind {
                HEADERS => answered += 1,
                RST_STREAM => reset.push(stream),
                _ => {}
            }
        }
        reset
    };
    let reset = tokio::select! {
        reset = talking => reset,
        _ = serving => panic!("the server ended"),
    };
    let seen = seen.lock().unwrap().clone();
    (seen, reset)
}

async fn next_frame(client: &mut DuplexStream) -> (u8, u32, Vec<u8>) {
    let mut head = [0; 9];
    client.read_exact(&mut head).await.unwrap();
    let mut payload = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
    client.read_exact(&mut payload).await.unwrap();
    (
        head[3],
        u32::from_be_bytes([head[5], head[6], head[7], head[8]]),
        payload,
    )
}

#[tokio::test]
async fn a_tonic_server_answers_every_client() {
    for (client, authority, mended) in clients() {
        for pieces in [1_000, 9] {
            let bytes = connection(&authority, pieces);
            // The stream in between belongs to no request; a server may refuse it.
            let bytes = bytes_without_data(&bytes);
            let (seen, reset) = served(bytes).await;
            assert_eq!(reset, Vec::<u32>::new(), "{client}");
            assert_eq!(seen.len(), 2, "{client}");
            assert_eq!(
                seen[0], seen[1],
                "{client}: the second request names the first one's table entry"
            );
            if !client.starts_with("Huffman") {
                assert!(mended.ends_with(seen[0].as_bytes()), "{client}: {}", seen[0]);
            }
        }
    }
}

/// `connection` without its DATA frame.
fn bytes_without_data(bytes: &[u8]) -> Vec<u8> {
    let data = frame(0, 0, 3, b"/not/a/header");
    let at = bytes
        .windows(data.len())
        .position(|window| window == data)
        .unwrap();
    [&bytes[..at], &bytes[at + data.len()..]].concat()
}
