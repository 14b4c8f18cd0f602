//! A node that attests with a certificate (`x509pop`), rightly or with one fault in its answer to the challenge.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use credence_crypto::digest::random_bytes;
use credence_crypto::{PopSignature, PrivateKey};
use prost::Message;
use prost_reflect::DynamicMessage;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::transport::Channel;

use super::call;
use crate::certificates::Issued;

const METHOD: &str = "Agent/AttestAgent";

/// Attests; `fault` is `right`, or what is wrong with the answer.
pub(super) async fn attest(channel: Channel, node: &Issued, csr: &str, fault: &str) -> Value {
    let method = call::method(METHOD);
    let certificates: Vec<String> = node.chain.iter().map(|der| STANDARD.encode(der)).collect();
    let payload = json!({ "certificates": certificates }).to_string();
    let first = json!({"params": {
        "data": {"type": "x509pop", "payload": STANDARD.encode(payload)},
        "params": {"csr": csr},
    }});
    let input = method.input();
    let encode = |message: &Value| {
        DynamicMessage::deserialize(input.clone(), message)
            .expect("a request")
            .encode_to_vec()
    };
    let (sender, messages) = mpsc::unbounded_channel();
    drop(sender.send(encode(&first)));
    let mut sender = Some(sender);
    let answered = |answer: &DynamicMessage| {
        let challenge = answer
            .get_field_by_name("challenge")
            .and_then(|challenge| challenge.as_bytes().cloned())
            .unwrap_or_default();
        // After the result, and when it breaks off, nothing more is said.
        let open = sender
            .take()
            .filter(|_| !challenge.is_empty() && fault != "silence");
        let Some(open) = open else { return };
        let response = STANDARD.encode(respond(node, &challenge, fault));
        drop(open.send(encode(&json!({ "challenge_response": response }))));
        sender = Some(open).filter(|_| fault != "twice");
    };
    let messages = UnboundedReceiverStream::new(messages);
    let mut said = call::converse(channel, &method, messages, true, answered).await;
    let answers = said.get_mut("answers").and_then(Value::as_array_mut);
    for answer in answers.into_iter().flatten() {
        if let Some(challenge) = answer.get_mut("challenge") {
            *challenge = shown(challenge);
        }
    }
    said
}

/// A challenge as its form: nonces by their length.
fn shown(challenge: &Value) -> Value {
    let bytes = STANDARD
        .decode(challenge.as_str().unwrap_or_default())
        .unwrap_or_default();
    let mut form: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    for kind in ["rsa_signature", "ecdsa_signature"] {
        if let Some(nonce) = form.pointer_mut(&format!("/{kind}/nonce")) {
            let length = STANDARD
                .decode(nonce.as_str().unwrap_or_default())
                .map_or(0, |nonce| nonce.len());
            *nonce = json!(format!("{length} bytes"));
        }
    }
    form
}

fn respond(node: &Issued, challenge: &[u8], fault: &str) -> Vec<u8> {
    match fault {
        "empty" => return Vec::new(),
        "junk" => return b"x".to_vec(),
        "braces" => return b"{}".to_vec(),
        "null" => return b"null".to_vec(),
        "list" => return b"[]".to_vec(),
        _ => {}
    }
    let challenge: Value = serde_json::from_slice(challenge).expect("a challenge is JSON");
    let theirs = ["rsa_signature", "ecdsa_signature"]
        .iter()
        .find_map(|kind| challenge.pointer(&format!("/{kind}/nonce"))?.as_str());
    let mut theirs = STANDARD
        .decode(theirs.expect("a nonce"))
        .expect("a nonce in base64");
    let mut ours = random_bytes::<32>().expect("a nonce").to_vec();
    match fault {
        "replayed" => theirs = vec![7; 32],
        "short" => ours.truncate(16),
        "long" => ours.push(0),
        "bare" => ours.clear(),
        _ => {}
    }
    let key = match fault {
        "stolen" => PrivateKey::generate(credence_crypto::KeyType::EcP256).expect("a key"),
        _ => PrivateKey::from_pem(&node.key).expect("a key"),
    };
    let proof = key
        .prove_possession(&[theirs.as_slice(), &ours].concat())
        .expect("a proof");
    let nonce = STANDARD.encode(&ours);
    let spoil = |mut bytes: Vec<u8>| {
        if fault == "spoilt" {
            *bytes.last_mut().expect("a signature") ^= 1;
        }
        if fault == "unsigned" {
            bytes.clear();
        }
        STANDARD.encode(bytes)
    };
    let response = match proof {
        PopSignature::Rsa(signature) => {
            json!({"rsa_signature": {"nonce": nonce, "signature": spoil(signature)}})
        }
        PopSignature::Ecdsa { r, s } if fault == "swapped" => {
            json!({"ecdsa_signature": {"nonce": nonce, "r": STANDARD.encode(s), "s": STANDARD.encode(r)}})
        }
        PopSignature::Ecdsa { r, s } if fault == "other" => {
            let signature = STANDARD.encode([r, s].concat());
            json!({"rsa_signature": {"nonce": nonce, "signature": signature}})
        }
        PopSignature::Ecdsa { r, s } => {
            json!({"ecdsa_signature": {"nonce": nonce, "r": STANDARD.encode(r), "s": spoil(s)}})
        }
    };
    let response = match fault {
        "notbase64" => response.to_string().replace(&nonce, "???"),
        _ => response.to_string(),
    };
    response.into_bytes()
}
