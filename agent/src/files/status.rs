//! How the files of a job are: for probes, and for whoever waits until all are there.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};

use super::job::Job;

/// One file, or the files of an X.509-SVID together.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum Write {
    /// Not yet.
    #[default]
    Unwritten,
    /// The newest is there.
    Written,
    /// What was there before is.
    Failed(String),
}

/// The state of all files of a job; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Status(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    x509: Option<Write>,
    /// By the file's path.
    jwt: BTreeMap<String, Write>,
}

impl Write {
    fn word(&self) -> &'static str {
        match self {
            Self::Unwritten => "unwritten",
            Self::Written => "written",
            Self::Failed(_) => "failed",
        }
    }
}

impl Status {
    pub(crate) fn of(job: &Job) -> Self {
        let tokens = job.tokens.iter().map(|token| &token.file);
        let jwt = job.jwt_bundle.iter().chain(tokens);
        let path = |file: &super::batch::Named| job.target.folder.join(&file.name).display().to_string();
        Self(Arc::new(Mutex::new(Inner {
            x509: job.x509.as_ref().map(|_| Write::Unwritten),
            jwt: jwt.map(|file| (path(file), Write::Unwritten)).collect(),
        })))
    }

    pub(crate) fn set_x509(&self, write: Write) {
        self.lock().x509 = Some(write);
    }

    pub(crate) fn set_jwt(&self, path: String, write: Write) {
        self.lock().jwt.insert(path, write);
    }

    /// Whether nothing has failed since it was last written.
    pub fn is_live(&self) -> bool {
        self.fault().is_none()
    }

    /// Whether all is written.
    pub fn is_ready(&self) -> bool {
        let inner = self.lock();
        inner.all().all(|write| *write == Write::Written)
    }

    /// What keeps a file from being written.
    pub fn fault(&self) -> Option<String> {
        let inner = self.lock();
        inner.all().find_map(|write| match write {
            Write::Failed(why) => Some(why.clone()),
            Write::Unwritten | Write::Written => None,
        })
    }

    /// As spiffe-helper's probes show it.
    pub(crate) fn to_json(&self) -> Value {
        let inner = self.lock();
        let jwt: BTreeMap<_, _> = inner
            .jwt
            .iter()
            .map(|(path, write)| (path, write.word()))
            .collect();
        let mut statuses = json!({ "jwt_write_status": jwt });
        if let (Some(x509), Some(statuses)) = (&inner.x509, statuses.as_object_mut()) {
            statuses.insert("x509_write_status".to_owned(), x509.word().into());
        }
        json!({ "file_write_statuses": statuses })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn all(&self) -> impl Iterator<Item = &Write> {
        self.x509.iter().chain(self.jwt.values())
    }
}
