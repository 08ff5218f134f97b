//! The files of the media repository, below one directory.
//!
//! `local`, `remote` and `thumbnails` each have files under `ab/cd/abcd…`, so that no directory gets too large. What is
//! being written stands in `incoming`, which is emptied at the start.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use tokio::{
    fs::File,
    io::{AsyncWriteExt, BufWriter},
    task::spawn_blocking,
};
use tracing::warn;

use super::id::FileId;

/// How much is gathered before it is written.
const BUFFER: usize = 128 * 1024;

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A user of this server uploaded it.
    Local,
    /// A copy of another server's file.
    Remote,
    /// A smaller copy of an image.
    Thumbnail,
}

impl Kind {
    fn folder(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Remote => "remote",
            Self::Thumbnail => "thumbnails",
        }
    }
}

/// All files. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Files {
    root: PathBuf,
}

impl Files {
    /// The files below this directory. It is made if it is not there; what was left half-written is removed.
    pub fn open(root: PathBuf) -> io::Result<Self> {
        let files = Self { root };
        let incoming = files.incoming();
        match fs::remove_dir_all(&incoming) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => fs::create_dir_all(&incoming)?,
        }
        Ok(files)
    }

    /// A file to be written, of at most this many bytes.
    pub async fn create(&self, limit: u64) -> io::Result<Incoming> {
        let id = FileId::random();
        let path = self.incoming().join(id.as_str());
        let created = match File::create_new(&path).await {
            // Somebody has tidied up.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                tokio::fs::create_dir_all(self.incoming()).await?;
                File::create_new(&path).await
            }
            created => created,
        };
        let file = BufWriter::with_capacity(BUFFER, created?);
        Ok(Incoming { file, id, size: 0, limit, left: Left(path), files: self.clone() })
    }

    /// A whole file, to be read. `None`: there is none.
    pub async fn read(&self, kind: Kind, id: &FileId) -> io::Result<Option<File>> {
        match File::open(self.path(kind, id)).await {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Removes a file that no row names any more. Who reads it reads on. A failure costs only space.
    pub async fn remove(&self, kind: Kind, id: &FileId) {
        if let Err(error) = tokio::fs::remove_file(self.path(kind, id)).await
            && error.kind() != io::ErrorKind::NotFound
        {
            warn!(%error, "could not remove a file of the media repository");
        }
    }

    /// Where a file is.
    pub fn path(&self, kind: Kind, id: &FileId) -> PathBuf {
        let (first, rest) = id.as_str().split_at(2);
        self.root.join(kind.folder()).join(first).join(&rest[..2]).join(id.as_str())
    }

    fn incoming(&self) -> PathBuf {
        self.root.join("incoming")
    }
}

/// Why a file could not be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// It has more bytes than it may.
    #[error("it has more than {0} bytes")]
    TooLarge(u64),
    /// The disk is full or broken.
    #[error("a file of the media repository cannot be written")]
    Io(#[from] io::Error),
}

/// A file that is being written. Unless it is kept, it is removed.
pub struct Incoming {
    file: BufWriter<File>,
    id: FileId,
    size: u64,
    limit: u64,
    left: Left,
    files: Files,
}

impl Incoming {
    /// Adds bytes.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        self.size += bytes.len() as u64;
        if self.size > self.limit {
            return Err(WriteError::TooLarge(self.limit));
        }
        Ok(self.file.write_all(bytes).await?)
    }

    /// Makes it durable under its name: its id and size.
    pub async fn keep(mut self, kind: Kind) -> Result<(FileId, u64), WriteError> {
        self.file.flush().await?;
        self.file.get_ref().sync_all().await?;
        let (from, to) = (self.left.0.clone(), self.files.path(kind, &self.id));
        let root = self.files.root.clone();
        let moved = spawn_blocking(move || place(&from, &to, &root)).await;
        moved.map_err(io::Error::other)??;
        Ok((self.id, self.size))
    }
}

/// A file that is removed when it is dropped, if it is still there.
struct Left(PathBuf);

impl Drop for Left {
    fn drop(&mut self) {
        // It is not there any more when it was kept; and what stays is removed at the next start.
        let _ = fs::remove_file(&self.0);
    }
}

/// Renames the file and makes that durable, with the directories that had to be made for it.
fn place(from: &Path, to: &Path, root: &Path) -> io::Result<()> {
    let folder = to.parent().unwrap_or(root);
    fs::create_dir_all(folder)?;
    fs::rename(from, to)?;
    // All of them, even if they were there: whoever made them may not have come so far yet.
    for folder in folder.ancestors().take_while(|folder| folder.starts_with(root)) {
        fs::File::open(folder)?.sync_all()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    fn files(name: &str) -> Files {
        let folder = std::env::temp_dir().join(format!("myelin-media-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        Files::open(folder).unwrap()
    }

    fn incoming(files: &Files) -> usize {
        fs::read_dir(files.incoming()).unwrap().count()
    }

    #[tokio::test]
    async fn kept_file_is_read_until_it_is_removed() {
        let files = files("kept");
        let mut file = files.create(10).await.unwrap();
        file.write(b"hello ").await.unwrap();
        file.write(b"you").await.unwrap();
        assert_eq!(incoming(&files), 1);
        let (id, size) = file.keep(Kind::Local).await.unwrap();
        assert_eq!((size, incoming(&files)), (9, 0));
        let mut text = String::new();
        let found = files.read(Kind::Local, &id).await.unwrap();
        found.unwrap().read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "hello you");
        assert!(files.read(Kind::Remote, &id).await.unwrap().is_none());
        files.remove(Kind::Local, &id).await;
        assert!(files.read(Kind::Local, &id).await.unwrap().is_none());
        fs::remove_dir_all(files.root).unwrap();
    }

    #[tokio::test]
    async fn what_is_not_kept_is_gone() {
        let files = files("dropped");
        let mut file = files.create(3).await.unwrap();
        assert!(matches!(file.write(b"four").await, Err(WriteError::TooLarge(3))));
        drop(file);
        assert_eq!(incoming(&files), 0);
        fs::write(files.incoming().join("left"), b"half").unwrap();
        Files::open(files.root.clone()).unwrap();
        assert_eq!(incoming(&files), 0);
        fs::remove_dir_all(files.root).unwrap();
    }
}
