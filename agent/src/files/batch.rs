//! What is to be written, as bytes.

use std::fmt;
use std::path::PathBuf;

use zeroize::Zeroizing;

/// A file below the target folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// Its name, with folders where it has some: neither absolute nor with `..`.
    pub name: PathBuf,
    /// Its mode, exactly.
    pub mode: u32,
}

/// What is written in one go.
#[derive(Debug)]
pub(crate) enum Batch {
    /// Files that belong together, named by the first.
    Generation(Vec<Rendered>),
    /// One file by itself.
    Single(Rendered),
}

/// A file with its bytes, which are erased with it.
pub(crate) struct Rendered {
    pub(crate) name: PathBuf,
    pub(crate) mode: u32,
    pub(crate) bytes: Zeroizing<Vec<u8>>,
}

impl Rendered {
    pub(crate) fn new(file: &Named, bytes: Zeroizing<Vec<u8>>) -> Self {
        let Named { name, mode } = file.clone();
        Self { name, mode, bytes }
    }
}

impl fmt::Debug for Rendered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Rendered({}, {} bytes)", self.name.display(), self.bytes.len())
    }
}
