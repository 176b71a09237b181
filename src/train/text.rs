//! Text from a file or a folder.

use crate::format::files::read_file;
use crate::tensor::error::{ensure, error};
use crate::tensor::log::{LogLevel, log};
use crate::tensor::{Error, Result, reserve};
use std::fs;
use std::path::{Path, PathBuf};

/// The text of one file, or of every file below a folder.
///
/// A folder is read recursively in the order of its paths, byte by byte; hidden entries and symbolic links are passed over,
/// and so are files that are not UTF-8 or hold a NUL. The texts are joined with a line end.
pub fn read_text(path: &Path) -> Result<String> {
    let metadata = fs::metadata(path).map_err(|e| Error::io("reading", path, &e))?;
    let text = if metadata.is_dir() { read_folder(path)? } else { read_utf8(path)? };
    ensure!(!text.is_empty(), Format, "{} holds no text", path.display());
    Ok(text)
}

fn read_utf8(path: &Path) -> Result<String> {
    String::from_utf8(read_file(path)?).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        error!(Format, "{} is not UTF-8: the byte at offset {at} is {:#04x}", path.display(), e.as_bytes()[at])
    })
}

fn read_folder(path: &Path) -> Result<String> {
    let mut files = Vec::new();
    list(path, &mut files)?;
    files.sort();
    let (mut text, mut passed_over) = (String::new(), 0);
    for file in &files {
        match String::from_utf8(read_file(file)?) {
            Ok(part) if !part.contains('\0') => {
                text.try_reserve(part.len() + 1)
                    .map_err(|_| error!(Memory, "out of memory reading {}", file.display()))?;
                if !text.is_empty() && !text.ends_with('\n') {
                    text.push('\n');
                }
                text.push_str(&part);
            }
            _ => passed_over += 1,
        }
    }
    let used = files.len() - passed_over;
    log(
        LogLevel::Info,
        format_args!(
            "{}: {used} files of text, {passed_over} others passed over, {} bytes",
            path.display(),
            text.len()
        ),
    );
    ensure!(used > 0, Format, "{} holds no file of text ({passed_over} files are not UTF-8)", path.display());
    Ok(text)
}

/// All regular files below a folder.
fn list(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let failed = |e| Error::io("reading", folder, &e);
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        let kind = entry.file_type().map_err(failed)?;
        if kind.is_dir() {
            list(&entry.path(), files)?;
        } else if kind.is_file() {
            reserve(files, 1)?;
            files.push(entry.path());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::ErrorKind;

    fn folder(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("setun-text-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(path.join("b/deep")).unwrap();
        path
    }

    #[test]
    fn a_folder_is_read_in_order_without_what_is_no_text() {
        let folder = folder("order");
        fs::write(folder.join("c.txt"), "third").unwrap();
        fs::write(folder.join("a.txt"), "first\n").unwrap();
        fs::write(folder.join("b/deep/x"), "second").unwrap();
        fs::write(folder.join("b/binary"), [0xff, 0xfe, 0]).unwrap();
        fs::write(folder.join("b/nul"), "a\0b").unwrap();
        fs::write(folder.join(".hidden"), "hidden").unwrap();
        std::os::unix::fs::symlink(folder.join("a.txt"), folder.join("link")).unwrap();
        assert_eq!(read_text(&folder).unwrap(), "first\nsecond\nthird");
        assert_eq!(read_text(&folder.join("c.txt")).unwrap(), "third");
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn what_is_no_text_is_refused_with_the_reason() {
        let folder = folder("refused");
        let error = read_text(&folder).unwrap_err();
        assert!(error.message.contains("holds no file of text"), "{error}");
        fs::write(folder.join("empty"), "").unwrap();
        assert!(read_text(&folder.join("empty")).unwrap_err().message.ends_with("holds no text"));
        fs::write(folder.join("latin1"), b"caf\xe9").unwrap();
        let error = read_text(&folder.join("latin1")).unwrap_err();
        assert!(error.message.ends_with("is not UTF-8: the byte at offset 3 is 0xe9"), "{error}");
        assert_eq!(read_text(&folder.join("missing")).unwrap_err().kind, ErrorKind::Io);
        fs::remove_dir_all(folder).unwrap();
    }
}
