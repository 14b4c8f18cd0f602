//! What the command lines of server and agent share: flags as Go's programs take them, the forms of output,
//! dates and durations as Go prints them, and the way to a socket.
//!
//! It owns no command and knows no API. Nothing here touches the process's own streams: a command writes to the
//! [`Console`] it is given, so that tests can look over its shoulder.

pub mod address;
pub mod completion;
pub mod config;
pub mod date;
pub mod duration;
pub mod error;
pub mod explanation;
pub mod flags;
pub mod help;
pub mod json;
pub mod output;
pub mod running;
pub mod table;

pub use config::{config_file, load_config, say_validity};
pub use duration::GoDuration;
pub use error::CommandError;
pub use output::{Console, Format};
