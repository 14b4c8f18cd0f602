//! Writing: a certificate with its key and bundle as one generation, and each other file by itself.
//!
//! Files that belong together lie in a folder of their own, `.NAME.<random>`, which nobody sees before it is whole. The
//! link `.NAME.current` names the folder that counts, and one rename of it swaps all of them; the names that were asked
//! for are links through it and are made once. Invariant: at each moment, after a kill at each of them, and with a full
//! disk, `.NAME.current` leads to a whole generation, and a file by itself is the old or the new one.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use super::batch::{Batch, Rendered};
use super::folder::{Content, Folder, FolderError, beside, is_beside};
use super::owner::NotPermitted;
use super::render::RenderError;
use super::target::Target;

/// A step that is done: after each the process may die.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// The folder of a generation is there, empty.
    Begun,
    /// One of its files is.
    FileWritten,
    /// It is whole and on disk.
    Whole,
    /// It counts.
    Swapped,
    /// One of the names asked for leads to it.
    Linked,
    /// What an earlier one left is gone.
    Cleaned,
    /// A file by itself was replaced.
    Replaced,
}

/// Why files were not written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WriteError {
    /// The folder or the disk.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The owner.
    #[error(transparent)]
    Owner(#[from] NotPermitted),
    /// What was to be written.
    #[error(transparent)]
    Render(#[from] RenderError),
    /// The thread that wrote is gone.
    #[error("writing was interrupted: {0}")]
    Interrupted(String),
}

impl Target {
    /// Writes one batch. Blocks on the disk: for a thread that may.
    ///
    /// # Errors
    /// [`WriteError`]; what was there before still counts.
    pub(crate) fn write(&self, batch: &Batch) -> Result<(), WriteError> {
        self.write_observed(batch, &mut |_| {})
    }

    /// As [`Target::write`]; `observe` is told of each step.
    pub(crate) fn write_observed(
        &self,
        batch: &Batch,
        observe: &mut dyn FnMut(Step),
    ) -> Result<(), WriteError> {
        self.owner.acting(|| {
            let folder = Folder::open(&self.folder)?;
            if self.guarded {
                folder.refuse_exposed(&self.owner)?;
            }
            let _alone = folder.lock()?;
            match batch {
                Batch::Generation(files) => self.write_generation(&folder, files, observe),
                Batch::Single(file) => self.write_single(&folder, file, observe),
            }
        })?
    }

    fn write_single(
        &self,
        folder: &Folder,
        file: &Rendered,
        observe: &mut dyn FnMut(Step),
    ) -> Result<(), WriteError> {
        let (folder, name) = (&below(folder, &file.name)?, file_name(&file.name));
        clean(folder, name, &[]);
        folder.replace(file.content(name), &self.owner)?;
        observe(Step::Replaced);
        folder.sync()?;
        Ok(())
    }

    fn write_generation(
        &self,
        folder: &Folder,
        files: &[Rendered],
        observe: &mut dyn FnMut(Step),
    ) -> Result<(), WriteError> {
        let Some(name) = files.first().map(|first| flat(&first.name)) else {
            return Ok(());
        };
        let current = current(&name);
        let before = folder.points_to(&current);
        let generation = beside(&name)?;
        let made = self
            .fill(folder, &generation, files, observe)
            .and_then(|()| folder.point(&current, &generation));
        if let Err(error) = made {
            folder.forget(&generation);
            return Err(error.into());
        }
        observe(Step::Swapped);
        folder.sync()?;
        // A reader that has found the one before may still be at it.
        let mut kept = vec![generation];
        kept.extend(before);
        for file in files {
            let (inside, link) = (below(folder, &file.name)?, file_name(&file.name));
            let mut through: PathBuf = file.name.iter().skip(1).map(|_| "..").collect();
            through.push(&current);
            through.push(flat(&file.name));
            inside.point(link, through.as_os_str())?;
            observe(Step::Linked);
            inside.sync()?;
            clean(&inside, link, &kept);
        }
        clean(folder, &name, &kept);
        clean(folder, &current, &kept);
        observe(Step::Cleaned);
        Ok(())
    }

    fn fill(
        &self,
        folder: &Folder,
        generation: &OsStr,
        files: &[Rendered],
        observe: &mut dyn FnMut(Step),
    ) -> Result<(), FolderError> {
        let inside = folder.make_folder(generation, &self.owner)?;
        observe(Step::Begun);
        for file in files {
            inside.make_file(file.content(&flat(&file.name)), &self.owner)?;
            observe(Step::FileWritten);
        }
        inside.open_up()?;
        inside.sync()?;
        folder.sync()?;
        observe(Step::Whole);
        Ok(())
    }
}

impl Rendered {
    fn content<'a>(&'a self, name: &'a OsStr) -> Content<'a> {
        Content {
            name,
            mode: self.mode,
            bytes: &self.bytes,
        }
    }
}

/// The folder of a file below the target folder.
fn below(folder: &Folder, name: &Path) -> Result<Folder, FolderError> {
    folder.below(name.parent().unwrap_or(Path::new("")))
}

fn file_name(name: &Path) -> &OsStr {
    name.file_name().unwrap_or_default()
}

/// A name in a generation, which has no folders.
fn flat(name: &Path) -> OsString {
    let parts: Vec<&OsStr> = name.iter().collect();
    parts.join(OsStr::new("%"))
}

/// The link to the generation that counts.
fn current(name: &OsStr) -> OsString {
    let mut link = OsString::from(".");
    link.push(name);
    link.push(".current");
    link
}

/// Removes what writers that died left behind. What can't be removed is for the next one.
fn clean(folder: &Folder, name: &OsStr, kept: &[OsString]) {
    for found in folder.names().unwrap_or_default() {
        if is_beside(&found, name) && !kept.contains(&found) {
            folder.forget(&found);
        }
    }
}

#[cfg(test)]
mod tests;
