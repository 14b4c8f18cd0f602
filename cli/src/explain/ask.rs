//! Whom to ask, and what to say when nobody answers.

use std::env;
use std::fmt;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use credence_agent::explain::outside::Place as Node;
use credence_command::address::connect;
use credence_command::error::in_time;
use credence_command::explanation::{print, to_proto};
use credence_command::output::Output;
use credence_command::{CommandError, Console};
use credence_identity::diagnosis::{Cause, Explanation};
use credence_proto::credence::explain::v1 as pb;
use credence_proto::credence::explain::v1::node_client::NodeClient;
use credence_proto::credence::explain::v1::registry_client::RegistryClient;
use tonic::transport::Channel;
use tonic::{Code, Response, Status};

use super::{Place, Question};

const DEADLINE: Duration = Duration::from_secs(30);
const AGENT_CONFIG: &str = "conf/agent/agent.conf";
const SERVER_SOCKET: &str = "/tmp/spire-server/private/api.sock";
const SERVER_VARIABLE: &str = "SPIRE_SERVER_PRIVATE_SOCKET";

type Answer = Result<Response<pb::Explanation>, Status>;

pub(super) async fn ask(question: &Question, console: &mut Console<'_>) -> Result<u8, CommandError> {
    let (explanation, output) = in_time(DEADLINE, async {
        match question {
            Question::Pid {
                pid,
                spiffe_id,
                place,
                output,
            } => {
                let request = pb::ExplainProcessRequest {
                    pid: *pid,
                    spiffe_id: spiffe_id.clone(),
                };
                let ask = async |channel| NodeClient::new(channel).explain_process(request).await;
                Ok((of_agent(place, ask).await?, output))
            }
            Question::Entry {
                id,
                agent_id,
                place,
                output,
            } => {
                let request = pb::ExplainEntryRequest {
                    entry_id: id.clone(),
                    agent_id: agent_id.clone(),
                };
                let ask = async |channel| RegistryClient::new(channel).explain_entry(request).await;
                Ok((of_server(place, ask).await?, output))
            }
            Question::SpiffeId {
                id,
                agent_id,
                place,
                output,
            } => {
                let request = pb::ExplainSpiffeIdRequest {
                    spiffe_id: id.clone(),
                    agent_id: agent_id.clone(),
                };
                let ask = async |channel| RegistryClient::new(channel).explain_spiffe_id(request).await;
                Ok((of_server(place, ask).await?, output))
            }
            Question::Request { id, place, output } => Ok((of_either(place, id).await?, output)),
        }
    })
    .await?;
    let Output { format } = *output;
    print(&explanation, format, console)
}

async fn of_agent(
    place: &Place,
    ask: impl AsyncFnOnce(Channel) -> Answer,
) -> Result<pb::Explanation, CommandError> {
    let node = match node(place) {
        Ok(node) => node,
        Err(explanation) => return Ok(to_proto(*explanation)),
    };
    if let Err(error) = UnixStream::connect(&node.socket) {
        return Ok(to_proto(node.explain(&error)));
    }
    answer(&node.socket, ask).await
}

/// Where the agent of this node is: what the flags say, else the usual configuration file.
fn node(place: &Place) -> Result<Node, Box<Explanation>> {
    match (&place.socket_path, &place.config) {
        (Some(socket), _) => Ok(Node::at_socket(socket.clone())),
        (None, Some(config)) => Node::of_config(config, place.expand_env),
        (None, None) => Node::of_config(Path::new(AGENT_CONFIG), place.expand_env),
    }
}

async fn of_server(
    place: &Place,
    ask: impl AsyncFnOnce(Channel) -> Answer,
) -> Result<pb::Explanation, CommandError> {
    let socket = server_socket(place);
    if let Err(error) = UnixStream::connect(&socket) {
        return Ok(to_proto(unanswered(&socket, &error)));
    }
    answer(&socket, ask).await
}

/// A socket that was named may be either's: it is the agent's if it knows the agent's calls.
async fn of_either(place: &Place, id: &str) -> Result<pb::Explanation, CommandError> {
    let request = || pb::ExplainRequestRequest {
        request_id: id.to_owned(),
    };
    let of_node = async |channel| NodeClient::new(channel).explain_request(request()).await;
    let of_registry = async |channel| RegistryClient::new(channel).explain_request(request()).await;
    if let Some(socket) = &place.socket_path {
        let Ok(channel) = connect(socket).await else {
            return of_agent(place, of_node).await;
        };
        return match of_node(channel).await {
            Err(status) if status.code() == Code::Unimplemented => of_server(place, of_registry).await,
            answer => Ok(answer?.into_inner()),
        };
    }
    let agent_is_here = node(place).is_ok_and(|node| UnixStream::connect(&node.socket).is_ok());
    let server = server_socket(place);
    if !agent_is_here && place.config.is_none() && UnixStream::connect(&server).is_ok() {
        return of_server(place, of_registry).await;
    }
    let of_the_agent = of_agent(place, of_node).await;
    match of_the_agent {
        // On a machine with both, the other may have refused it.
        Err(_) if UnixStream::connect(&server).is_ok() => of_server(place, of_registry).await,
        answer => answer,
    }
}

async fn answer(
    socket: &Path,
    ask: impl AsyncFnOnce(Channel) -> Answer,
) -> Result<pb::Explanation, CommandError> {
    match ask(connect(socket).await?).await {
        Ok(explanation) => Ok(explanation.into_inner()),
        Err(status) if status.code() == Code::Unimplemented => Err(CommandError::new(format!(
            "{} does not answer such questions: ask explain.sock in the agent's data_dir, or the server's private socket",
            socket.display()
        ))),
        Err(status) => Err(status.into()),
    }
}

fn server_socket(place: &Place) -> PathBuf {
    let from_environment = || env::var_os(SERVER_VARIABLE).filter(|path| !path.is_empty());
    place
        .socket_path
        .clone()
        .or_else(|| from_environment().map(PathBuf::from))
        .unwrap_or_else(|| SERVER_SOCKET.into())
}

fn unanswered(socket: &Path, error: &io::Error) -> Explanation {
    let mut explanation = Explanation::of(format!("the server's socket {}", socket.display()));
    explanation.found(Unanswered {
        socket: socket.to_owned(),
        kind: error.kind(),
    });
    explanation
}

/// Why no server answers.
struct Unanswered {
    socket: PathBuf,
    kind: io::ErrorKind,
}

impl fmt::Display for Unanswered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let socket = self.socket.display();
        match self.kind {
            io::ErrorKind::NotFound => write!(f, "no server is running here: there is no socket {socket}"),
            io::ErrorKind::PermissionDenied => write!(f, "this user may not ask the server on {socket}"),
            io::ErrorKind::ConnectionRefused => {
                write!(
                    f,
                    "the server is not running: nobody listens on {socket}, so it was killed"
                )
            }
            kind => write!(f, "{socket} does not answer: {kind}"),
        }
    }
}

impl Cause for Unanswered {
    fn code(&self) -> &'static str {
        match self.kind {
            io::ErrorKind::NotFound => "server-not-running",
            io::ErrorKind::PermissionDenied => "explain-not-permitted",
            io::ErrorKind::ConnectionRefused => "server-died",
            _ => "server-unanswered",
        }
    }

    fn fix(&self) -> String {
        match self.kind {
            io::ErrorKind::PermissionDenied => "ask as root, or as a user who may open the server's socket",
            io::ErrorKind::NotFound => "start the server, or name its socket with -socketPath",
            _ => "start the server again, and see the end of its log",
        }
        .to_owned()
    }
}
