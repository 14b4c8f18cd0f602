use futures_util::StreamExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tonic::transport::server::Connected as _;

use super::*;

fn listen() -> (tempfile::TempDir, std::path::PathBuf, UnixListener) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("with % and space.sock");
    let listener = UnixListener::bind(&path).unwrap();
    (folder, path, listener)
}

/// Conforms: WEP-10, WEP-11
#[tokio::test]
async fn a_connection_knows_its_caller() {
    let (_folder, path, listener) = listen();
    let mut incoming = Box::pin(incoming(listener, ProcFs::at("/proc")));
    let _client = UnixStream::connect(&path).await.unwrap();
    let caller = incoming.next().await.unwrap().unwrap().connect_info();
    assert_eq!(u32::try_from(caller.pid()).unwrap(), std::process::id());
    assert_eq!(caller.uid(), nix::unistd::geteuid().as_raw());
    assert_eq!(caller.gid(), nix::unistd::getegid().as_raw());
    assert!(caller.is_alive());
}

#[tokio::test]
async fn more_connections_than_seats_are_closed() {
    let (_folder, path, listener) = listen();
    let accept = Accept {
        listener,
        proc: ProcFs::at("/proc"),
        seats: Seats::new(1),
    };
    let _first = UnixStream::connect(&path).await.unwrap();
    let held = accept.next().await;
    let mut second = UnixStream::connect(&path).await.unwrap();
    let third = async {
        assert_eq!(second.read(&mut [0]).await.unwrap(), 0, "closed at once");
        drop(held);
        UnixStream::connect(&path).await.unwrap()
    };
    tokio::join!(accept.next(), third);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_says_nothing_is_dropped() {
    let (_folder, path, listener) = listen();
    let accept = Accept {
        listener,
        proc: ProcFs::at("/proc"),
        seats: Seats::new(10),
    };
    for said in [0, 1, 23] {
        let mut client = UnixStream::connect(&path).await.unwrap();
        let mut server = accept.next().await;
        client
            .write_all(&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..said])
            .await
            .unwrap();
        let mut read = Vec::new();
        let failed = server.read_to_end(&mut read).await.unwrap_err();
        assert_eq!((failed.kind(), read.len()), (io::ErrorKind::TimedOut, said));
    }
    let mut client = UnixStream::connect(&path).await.unwrap();
    let mut server = accept.next().await;
    client
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        .await
        .unwrap();
    server.read_exact(&mut [0; 24]).await.unwrap();
    let quiet = tokio::time::timeout(Duration::from_secs(3600), server.read(&mut [0])).await;
    assert!(quiet.is_err(), "after the preface a client may be quiet");
}
