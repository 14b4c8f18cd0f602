//! X.509-SVIDs by CSR.

use credence_crypto::x509::X509Svid;
use credence_identity::EntryId;
use credence_proto::spire::api::server::svid::v1::{
    BatchNewX509svidRequest, NewX509svidParams, batch_new_x509svid_response, svid_client::SvidClient,
};
use credence_runtime::grpc::KEY_ELSEWHERE;
use tonic::metadata::MetadataValue;
use tonic::{Code, Request, Status};

use super::{CallError, MAX_ANSWER_BYTES, Server, convert};

const ACTION: &str = "failed to batch new X509 SVID(s)";

type Answer = Result<X509Svid, CallError>;

impl Server {
    /// X.509-SVIDs for these entries, by CSR; none where the server refuses one. In the order asked.
    pub(crate) async fn new_x509_svids(
        &self,
        csrs: Vec<(EntryId, Vec<u8>)>,
    ) -> Result<Vec<Answer>, CallError> {
        self.batch(Request::new(request(csrs))).await
    }

    /// An X.509-SVID of the entry for a key that this agent hasn't got. Our server is told so: the entry's next SVID
    /// won't replace this one.
    pub(crate) async fn lend_x509_svid(&self, entry: EntryId, csr: Vec<u8>) -> Answer {
        let mut request = Request::new(request(vec![(entry, csr)]));
        let told = MetadataValue::from_static("true");
        request.metadata_mut().insert(KEY_ELSEWHERE, told);
        let answer = self.batch(request).await?.pop();
        answer.unwrap_or_else(|| Err(CallError::answer(ACTION, "result is missing")))
    }

    async fn batch(&self, request: Request<BatchNewX509svidRequest>) -> Result<Vec<Answer>, CallError> {
        let asked = request.get_ref().params.len();
        let call = |channel| async {
            let mut client = SvidClient::new(channel).max_decoding_message_size(MAX_ANSWER_BYTES);
            client.batch_new_x509svid(request).await
        };
        let answer = self.call(ACTION, call).await?;
        if answer.results.len() != asked {
            let reason = format!("{} results for {asked} requests", answer.results.len());
            return Err(CallError::answer(ACTION, reason));
        }
        Ok(answer.results.into_iter().map(read).collect())
    }
}

fn request(csrs: Vec<(EntryId, Vec<u8>)>) -> BatchNewX509svidRequest {
    let params = csrs.into_iter().map(|(id, csr)| NewX509svidParams {
        entry_id: id.to_string(),
        csr,
    });
    BatchNewX509svidRequest {
        params: params.collect(),
    }
}

fn read(result: batch_new_x509svid_response::Result) -> Answer {
    let status = result.status.unwrap_or_default();
    if status.code == 0 {
        convert::x509_svid(result.svid).map_err(|fault| CallError::answer(ACTION, fault))
    } else {
        let status = Status::new(Code::from(status.code), status.message);
        Err(CallError::status(ACTION, &status))
    }
}
