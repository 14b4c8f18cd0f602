//! Who is refused, how, and what the server gets to see of it: nothing.

use credence_runtime::grpc::RequestId;
use tokio::time::Instant;
use tonic::Code;

use super::*;
use crate::explain::Stage;

/// What was kept of a refusal.
fn stage(mesh: &Mesh, status: &Status) -> Stage {
    let id = RequestId::of(status).expect("a request id");
    mesh.lab
        .ground
        .refusals
        .find(id)
        .expect("it is kept")
        .stage
        .clone()
}

#[tokio::test]
async fn a_caller_who_is_no_impersonator_gets_nobody_elses_identity() {
    let mesh = Mesh::new();
    mesh.register(Entry {
        admin: true,
        ..mesh_entry("/ns/shop/sa/boss")
    });
    let mut texts = Vec::new();
    // Whether the identity is there or not is the same to it.
    for path in [DB, "/ns/shop/sa/nobody", "/ns/shop/sa/boss", ZTUNNEL] {
        for request in [by_ztunnel(&key(), path), by_istio_agent(&key(), path)] {
            let refused = mesh.ask(WEB, request).await.unwrap_err();
            assert_eq!(refused.code(), Code::PermissionDenied);
            assert_eq!(stage(&mesh, &refused), Stage::NotImpersonator(id(path)));
            texts.push(refused.message().to_owned());
        }
    }
    texts.dedup();
    assert_eq!(texts.len(), 1);
    assert_eq!(mesh.asked(), [] as [&str; 0]);
}

#[tokio::test]
async fn identities_that_no_entry_of_this_agent_has_are_refused() {
    let mesh = Mesh::new();
    let now = mesh.lab.clock.now();
    for unfit in [
        Entry {
            admin: true,
            ..mesh_entry("/ns/shop/sa/boss")
        },
        Entry {
            downstream: true,
            ..mesh_entry("/ns/shop/sa/nested")
        },
        Entry {
            store_svid: true,
            ..mesh_entry("/ns/shop/sa/stored")
        },
        Entry {
            expires_at: Some(now),
            ..mesh_entry("/ns/shop/sa/ended")
        },
    ] {
        mesh.register(unfit);
    }
    mesh.lab.remove("db");
    let unfit = ["boss", "nested", "stored", "ended", "db", "of-another-node"];
    for path in unfit.map(|name| format!("/ns/shop/sa/{name}")) {
        // An owner is no better off than an impersonator.
        for caller in [ZTUNNEL, path.as_str()] {
            let refused = mesh.ask(caller, by_ztunnel(&key(), &path)).await.unwrap_err();
            assert_eq!(refused.code(), Code::PermissionDenied, "{path}");
            assert_eq!(refused.message(), "no entry of this agent has that identity");
            assert_eq!(stage(&mesh, &refused), Stage::NotHeld(id(&path)));
        }
    }
    assert_eq!(mesh.asked(), [] as [&str; 0]);
}

#[tokio::test]
async fn bearer_tokens_and_ended_svids_prove_nobody() {
    let mesh = Mesh::new();
    let mut request = mesh.request(ZTUNNEL, by_ztunnel(&key(), WEB));
    let token = "Bearer eyJhbGciOiJSUzI1NiJ9.e30.c2ln".parse().unwrap();
    request.metadata_mut().insert("authorization", token);
    let refused = mesh.service.create_certificate(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    assert!(refused.message().starts_with("bearer tokens are not accepted"));
    assert!(!refused.message().contains("eyJ"));
    assert!(matches!(stage(&mesh, &refused), Stage::Certificate(_)));

    // The connection may outlive the SVID that it was made with, to the second.
    let request = || mesh.request(ZTUNNEL, by_ztunnel(&key(), WEB));
    let (in_time, late) = (request(), request());
    mesh.lab.clock.step_forward(TTL - Duration::from_secs(1));
    assert!(mesh.service.create_certificate(in_time).await.is_ok());
    mesh.lab.clock.step_forward(Duration::from_secs(1));
    let refused = mesh.service.create_certificate(late).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    assert_eq!(mesh.asked(), ["web"]);
}

#[tokio::test]
async fn requests_that_make_no_sense_are_refused_in_plain_words() {
    let mesh = Mesh::new();
    let other = IstioCertificateRequest {
        metadata: impersonating(&id(DB)),
        ..by_ztunnel(&key(), WEB)
    };
    let refused = mesh.ask(ZTUNNEL, other).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert_eq!(
        refused.message(),
        "the CSR is for spiffe://example.org/ns/shop/sa/web, and spiffe://example.org/ns/shop/sa/db is asked for"
    );
    assert_eq!(stage(&mesh, &refused), Stage::Request);
    let garbage = IstioCertificateRequest {
        csr: "garbage".to_owned(),
        ..by_ztunnel(&key(), WEB)
    };
    assert_eq!(
        mesh.ask(ZTUNNEL, garbage).await.unwrap_err().code(),
        Code::InvalidArgument
    );
    assert_eq!(mesh.asked(), [] as [&str; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_sign_as_it_should_yields_no_certificate() {
    let mesh = Mesh::new();
    let says = |code, message: &str| Answer::Fails(CallError::status("failed", &Status::new(code, message)));
    let stranger = Box::new(mesh_entry(DB));
    for (answer, code, message) in [
        (
            says(Code::InvalidArgument, "malformed CSR"),
            Code::InvalidArgument,
            "the server refuses the CSR: malformed CSR",
        ),
        (
            says(Code::NotFound, "entry not found"),
            Code::PermissionDenied,
            "the server doesn't let this agent have that identity",
        ),
        (
            says(Code::ResourceExhausted, "limited"),
            Code::ResourceExhausted,
            "the server is asked for too much",
        ),
        (
            says(Code::Unavailable, "connection refused: 10.0.0.1"),
            Code::Unavailable,
            "the server did not sign",
        ),
        (
            says(Code::PermissionDenied, "agent is banned"),
            Code::PermissionDenied,
            "the server doesn't let this agent have that identity",
        ),
        (
            Answer::OtherKey,
            Code::Unavailable,
            "the certificate can't be used yet",
        ),
        (
            Answer::Entry(stranger),
            Code::Unavailable,
            "the certificate can't be used yet",
        ),
        (
            Answer::Never,
            Code::Unavailable,
            "the certificate was not signed in time",
        ),
    ] {
        *mesh.server.answer.lock().unwrap() = Some(answer);
        let began = Instant::now();
        let refused = mesh.ask(ZTUNNEL, by_ztunnel(&key(), WEB)).await.unwrap_err();
        assert_eq!((refused.code(), refused.message()), (code, message));
        assert!(matches!(stage(&mesh, &refused), Stage::Certificate(_)));
        assert!(began.elapsed() <= Duration::from_secs(11));
    }
    // An authority that hasn't reached this agent yet: the caller couldn't tell its peers what to trust.
    *mesh.server.answer.lock().unwrap() = None;
    mesh.trust(Vec::new());
    let refused = mesh.ask(ZTUNNEL, by_ztunnel(&key(), WEB)).await.unwrap_err();
    assert_eq!(
        (refused.code(), refused.message()),
        (Code::Unavailable, "the certificate can't be used yet")
    );
}

#[tokio::test(start_paused = true)]
async fn one_callers_calls_and_all_csrs_are_bounded_in_a_second() {
    let mesh = Mesh::new();
    let key = key();
    let request = || by_istio_agent(&key, WEB);
    let mut answered = 0;
    for _ in 0..60 {
        match mesh.ask(WEB, request()).await {
            Ok(_) => answered += 1,
            Err(refused) => assert_eq!(refused.code(), Code::ResourceExhausted),
        }
    }
    assert_eq!(answered, 50);
    let refused = mesh.ask(WEB, request()).await.unwrap_err();
    assert_eq!(refused.message(), "too many calls by this identity");
    assert!(mesh.ask(ZTUNNEL, by_ztunnel(&key, WEB)).await.is_ok());

    // Many callers together leave the workloads of the node the greater part of what the server signs.
    let mut others = Vec::new();
    for n in 0..10 {
        let path = format!("/ns/shop/sa/many-{n}");
        mesh.register(mesh_entry(&path));
        for _ in 0..20 {
            others.push(mesh.ask(&path, by_istio_agent(&key, &path)).await);
        }
    }
    let refused: Vec<_> = others.into_iter().filter_map(Result::err).collect();
    assert_eq!(refused.len(), 51, "as many as were signed before");
    assert_eq!(
        refused[0].message(),
        "too many certificates are asked for at this agent"
    );
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(mesh.ask(WEB, request()).await.is_ok());
}
