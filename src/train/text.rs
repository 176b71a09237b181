//! The text to train on, from one file or from a folder of them.

use crate::format::files::read_file_unless;
use crate::tensor::error::{ensure, error};
use crate::tensor::log::{LogLevel, log};
use crate::tensor::{Cancelled, Error, Result, reserve};
use std::path::{Path, PathBuf};

/// The text at `path`. One file must be UTF-8; of a folder, the files at any depth in the order of their paths, joined by a
/// line end, without hidden ones and links, and without those that are not text (not UTF-8, or with a NUL in them).
/// CANCELLED once `cancelled` returns true.
pub fn read_text(path: &Path, cancelled: Cancelled) -> Result<String> {
    let metadata = std::fs::metadata(path).map_err(|e| Error::io("opening", path, &e))?;
    if metadata.is_dir() {
        return read_folder(path, cancelled);
    }
    let text = String::from_utf8(read_file_unless(path, cancelled)?).map_err(|e| {
        error!(Format, "{} is not UTF-8 at byte {}; text is needed", path.display(), e.utf8_error().valid_up_to())
    })?;
    ensure!(
        !text.is_empty(),
        Format,
        "{} is empty; windows of n tokens need about 10 (n + 1) of them in all, 650 for the default 64",
        path.display()
    );
    Ok(text)
}

fn read_folder(folder: &Path, cancelled: Cancelled) -> Result<String> {
    let files = files(folder, cancelled)?;
    let (mut text, mut skipped) = (String::new(), Vec::new());
    for path in &files {
        let bytes = read_file_unless(path, cancelled)?;
        match String::from_utf8(bytes) {
            Ok(contents) if contents.is_empty() => {}
            Ok(contents) if !contents.contains('\0') => {
                let separator = if text.is_empty() { "" } else { "\n" };
                text.try_reserve(contents.len() + 1)
                    .map_err(|_| error!(Memory, "out of memory for {} bytes of text", text.len() + contents.len()))?;
                text.push_str(separator);
                text.push_str(&contents);
            }
            _ => skipped.push(path),
        }
    }
    ensure!(
        !text.is_empty(),
        Format,
        "{} holds no text: of its {} files that are not hidden, {} are not text (UTF-8 without NUL) and the rest are empty",
        folder.display(),
        files.len(),
        skipped.len()
    );
    if let Some(first) = skipped.first() {
        let (count, all) = (skipped.len(), files.len());
        let message = format!("skipped {count} of {all} files that are not text, the first is {}", first.display());
        log(LogLevel::Warning, message);
    }
    Ok(text)
}

/// The regular files under a folder. Sorted, since the order in which a file system lists them differs between machines.
fn files(folder: &Path, cancelled: Cancelled) -> Result<Vec<PathBuf>> {
    let (mut folders, mut files) = (vec![folder.to_path_buf()], Vec::new());
    while let Some(folder) = folders.pop() {
        ensure!(!cancelled(), Cancelled, "reading {} was cancelled", folder.display());
        let failed = |e: std::io::Error| Error::io("reading", &folder, &e);
        for entry in std::fs::read_dir(&folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let kind = entry.file_type().map_err(failed)?;
            if entry.file_name().as_encoded_bytes().starts_with(b".") {
                continue;
            }
            // A link is neither a folder nor a file here, so that there is no way around in a circle.
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() {
                reserve(&mut files, 1)?;
                files.push(entry.path());
            }
        }
    }
    files.sort_unstable();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::scratch::Scratch;
    use crate::tensor::{ErrorKind, never};

    fn write(scratch: &Scratch, name: &str, bytes: &[u8]) {
        let path = scratch.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    #[test]
    fn one_file_is_read_as_it_is() {
        let scratch = Scratch::new();
        write(&scratch, ".hidden.txt", "a\r\n\0é\n".as_bytes());
        assert_eq!(read_text(&scratch.path().join(".hidden.txt"), &never).unwrap(), "a\r\n\0é\n");
    }

    #[test]
    fn what_is_no_text_says_where() {
        let scratch = Scratch::new();
        write(&scratch, "latin.txt", b"caf\xe9 au lait");
        write(&scratch, "cut.txt", &"abé".as_bytes()[..3]);
        write(&scratch, "empty.txt", b"");
        let refused = |name: &str| read_text(&scratch.path().join(name), &never).unwrap_err();
        let error = refused("latin.txt");
        assert_eq!(error.kind, ErrorKind::Format);
        assert!(error.message.ends_with("latin.txt is not UTF-8 at byte 3; text is needed"), "{error}");
        assert!(refused("cut.txt").message.contains("at byte 2"));
        let error = refused("empty.txt");
        assert_eq!(error.kind, ErrorKind::Format);
        assert!(
            error.message.ends_with(
                "empty.txt is empty; windows of n tokens need about 10 (n + 1) of them in all, 650 for the default 64"
            ),
            "{error}"
        );
        assert_eq!(refused("absent.txt").kind, ErrorKind::Io);
    }

    #[test]
    fn a_folder_is_read_in_the_order_of_its_paths() {
        let scratch = Scratch::new();
        // Made in an order that is not that of their names.
        for name in ["b/2.txt", "b.txt", "a/z/deep.md", "c", "a/b.txt", "B"] {
            write(&scratch, name, name.as_bytes());
        }
        write(&scratch, "a/empty.txt", b"");
        write(&scratch, ".git/config", b"hidden folder");
        write(&scratch, "b/.hidden", b"hidden file");
        write(&scratch, "b/binary.png", b"\x89PNG\0");
        write(&scratch, "b/utf16.txt", b"a\0b\0");
        #[cfg(unix)]
        for (target, name) in [(scratch.path(), "circle"), (&scratch.path().join("c"), "b/link")] {
            std::os::unix::fs::symlink(target, scratch.path().join(name)).unwrap();
        }
        assert_eq!(read_text(scratch.path(), &never).unwrap(), "B\na/b.txt\na/z/deep.md\nb/2.txt\nb.txt\nc");
    }

    #[test]
    fn reading_can_be_given_up() {
        let scratch = Scratch::new();
        write(&scratch, "a.txt", b"text");
        for path in [scratch.path().to_path_buf(), scratch.path().join("a.txt")] {
            let error = read_text(&path, &|| true).unwrap_err();
            assert_eq!(error.kind, ErrorKind::Cancelled);
            assert_eq!(error.message, format!("reading {} was cancelled", path.display()));
        }
    }

    #[test]
    fn a_folder_without_text_is_an_error() {
        let scratch = Scratch::new();
        let refused = || {
            let error = read_text(scratch.path(), &never).unwrap_err();
            assert_eq!(error.kind, ErrorKind::Format);
            error.message
        };
        assert!(refused().contains("holds no text: of its 0 files"));
        write(&scratch, "a.bin", b"\xff");
        write(&scratch, "b.txt", b"");
        assert!(refused().contains("of its 2 files that are not hidden, 1 are not text"));
        write(&scratch, "c.txt", b"text");
        assert_eq!(read_text(scratch.path(), &never).unwrap(), "text");
    }
}
