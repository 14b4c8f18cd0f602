//! What stands beside the Workload API on the same socket.

use std::time::Duration;

use credence_proto::grpc::health::v1::health_check_response::ServingStatus;
use credence_proto::grpc::health::v1::health_client::HealthClient;
use credence_proto::grpc::health::v1::{HealthCheckRequest, HealthListRequest};
use credence_runtime::grpc::RequestId;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tonic_reflection::pb::{v1, v1alpha};

use super::*;
use crate::explain::Stage;

async fn status(lab: &Lab) -> Result<ServingStatus, Status> {
    let checked = HealthClient::new(lab.channel().await)
        .check(HealthCheckRequest::default())
        .await?;
    Ok(ServingStatus::try_from(checked.into_inner().status).unwrap())
}

#[tokio::test(start_paused = true)]
async fn health_is_whether_a_caller_would_be_attested() {
    let lab = Lab::new(Setup::default());
    assert_eq!(
        status(&lab).await.unwrap(),
        ServingStatus::Serving,
        "though the path has a percent sign"
    );
    let root = tempfile::tempdir().unwrap();
    let proc = pretend(&root, "");
    let lab = Lab::new(Setup {
        proc,
        ..Setup::default()
    });
    assert_eq!(status(&lab).await.unwrap(), ServingStatus::Serving);
    std::fs::remove_dir_all(root.path().join(std::process::id().to_string())).unwrap();
    assert_eq!(status(&lab).await.unwrap(), ServingStatus::NotServing);
    let off = Lab::new(Setup {
        workload: None,
        ..Setup::default()
    });
    assert_eq!(status(&off).await.unwrap(), ServingStatus::Serving);
}

#[tokio::test(start_paused = true)]
async fn health_has_one_method() {
    let lab = Lab::new(Setup::default());
    let mut client = HealthClient::new(lab.channel().await);
    let one = HealthCheckRequest {
        service: "SpiffeWorkloadAPI".into(),
    };
    let refused = client.check(one).await.unwrap_err();
    assert_eq!(
        (refused.code(), refused.message()),
        (Code::InvalidArgument, "per-service health is not supported")
    );
    let refused = client.watch(HealthCheckRequest::default()).await.unwrap_err();
    assert_eq!(
        (refused.code(), refused.message()),
        (Code::Unimplemented, "method Watch not implemented")
    );
    let refused = client.list(HealthListRequest::default()).await.unwrap_err();
    assert_eq!(
        (refused.code(), refused.message()),
        (Code::Unimplemented, "method List not implemented")
    );
}

pub(super) async fn reflected(lab: &Lab) -> Vec<String> {
    use v1::server_reflection_request::MessageRequest;
    use v1::server_reflection_response::MessageResponse;
    let ask = |message| v1::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(message),
    };
    let mut client = v1::server_reflection_client::ServerReflectionClient::new(lab.channel().await);
    let asked = [
        ask(MessageRequest::ListServices(String::new())),
        ask(MessageRequest::FileContainingSymbol(
            "SpiffeWorkloadAPI.FetchX509SVID".into(),
        )),
    ];
    let mut answers = client
        .server_reflection_info(tokio_stream::iter(asked))
        .await
        .unwrap()
        .into_inner();
    let Some(MessageResponse::ListServicesResponse(list)) =
        answers.message().await.unwrap().unwrap().message_response
    else {
        panic!("a list")
    };
    let file = answers.message().await.unwrap().unwrap().message_response;
    assert!(
        matches!(file, Some(MessageResponse::FileDescriptorResponse(_))),
        "{file:?}"
    );
    list.service.into_iter().map(|service| service.name).collect()
}

/// Conforms: WEP-24
#[tokio::test(start_paused = true)]
async fn reflection_names_what_is_served_and_nothing_else() {
    let lab = Lab::new(Setup::default());
    let mut names = reflected(&lab).await;
    names.sort();
    let wanted = [
        "SpiffeWorkloadAPI",
        "envoy.service.secret.v3.SecretDiscoveryService",
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
    ];
    assert_eq!(names, wanted);

    use v1alpha::server_reflection_request::MessageRequest;
    let mut client = v1alpha::server_reflection_client::ServerReflectionClient::new(lab.channel().await);
    let list = MessageRequest::ListServices(String::new());
    let asked = v1alpha::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(list),
    };
    let mut answers = client
        .server_reflection_info(tokio_stream::iter([asked]))
        .await
        .unwrap()
        .into_inner();
    let text = format!("{:?}", answers.message().await.unwrap().unwrap());
    assert!(
        text.contains("SpiffeWorkloadAPI") && !text.contains("spire.api"),
        "{text}"
    );
}

/// A request as gRPC's C core writes it, on a socket whose path has several folders.
#[tokio::test]
async fn a_path_for_an_authority_is_answered() {
    let lab = Lab::new(Setup::default());
    let mut socket = UnixStream::connect(&lab.socket).await.unwrap();
    let literal = |name: &[u8], value: &[u8]| {
        let length = |text: &[u8]| u8::try_from(text.len()).unwrap();
        [&[0x00, length(name)], name, &[length(value)], value].concat()
    };
    let block = [
        vec![0x83, 0x86],
        literal(b":path", b"/SpiffeWorkloadAPI/FetchX509SVID"),
        literal(b":authority", b"run%2Fexample%2Fagent.sock"),
        literal(b"content-type", b"application/grpc"),
        literal(b"te", b"trailers"),
    ]
    .concat();
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
    bytes.extend([0, 0, u8::try_from(block.len()).unwrap(), 1, 0x4, 0, 0, 0, 1]);
    bytes.extend(block);
    bytes.extend(b"\0\0\x05\0\x01\0\0\0\x01\0\0\0\0\0");
    socket.write_all(&bytes).await.unwrap();
    loop {
        let mut head = [0; 9];
        timeout(Duration::from_secs(10), socket.read_exact(&mut head))
            .await
            .unwrap()
            .unwrap();
        let mut payload = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
        socket.read_exact(&mut payload).await.unwrap();
        assert!(head[3] != 3 && head[3] != 7, "refused by the transport");
        if head[3] == 1 {
            break;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn clients_that_never_let_go_do_not_keep_the_agent() {
    let lab = Lab::new(Setup::default());
    lab.put(own_entry("one"));
    let mut silent = UnixStream::connect(&lab.socket).await.unwrap();
    let _half_open = UnixStream::connect(&lab.socket).await.unwrap();
    silent
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        .await
        .unwrap();
    silent.read_exact(&mut [0; 9]).await.unwrap();
    let mut client = lab.client().await;
    let waiting = client.fetch_x509svid(with_header(X509svidRequest {}));
    let stopping = async {
        tokio::time::sleep(SOON).await;
        lab.supervisor.shutdown();
    };
    let (refused, ()) = tokio::join!(waiting, stopping);
    assert_eq!(refused.unwrap_err().message(), "agent is shutting down");
    let began = Instant::now();
    lab.supervisor.wait().await.unwrap();
    assert!(began.elapsed() <= Duration::from_secs(2), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_refusal_carries_its_number_and_is_kept_under_it() {
    let lab = Lab::new(Setup::default());
    let mut client = lab.client().await;
    let refused = client
        .fetch_x509svid(with_header(X509svidRequest {}))
        .await
        .unwrap_err();
    assert_eq!(refused.message(), "no identity issued");
    let id = RequestId::of(&refused).expect("a request id");
    let kept = lab.ground.refusals.find(id).expect("it is kept");
    assert_eq!(
        (kept.method, kept.stage.clone()),
        ("FetchX509SVID", Stage::NoIdentity(None))
    );
    assert!(
        kept.selectors
            .as_ref()
            .is_some_and(|selectors| !selectors.is_empty())
    );

    let refused = client
        .fetch_x509svid(Request::new(X509svidRequest {}))
        .await
        .unwrap_err();
    let id = RequestId::of(&refused).expect("a request id");
    assert_eq!(
        lab.ground.refusals.find(id).expect("it is kept").stage,
        Stage::Header
    );
}
