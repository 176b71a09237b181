use super::*;
use crate::format::scratch::{Scratch, names};

#[test]
fn a_file_is_written_and_replaced() {
    let scratch = Scratch::new();
    let path = scratch.path().join("data.bin");
    for contents in [&b"first"[..], b"", b"a longer second"] {
        write_atomic(&path, contents).unwrap();
        assert_eq!(read_file(&path).unwrap(), contents);
        assert_eq!(names(scratch.path()), ["data.bin"]);
    }
}

#[test]
fn a_failing_write_leaves_the_old_file_and_no_temporary() {
    let scratch = Scratch::new();
    let path = scratch.path().join("data.bin");
    write_atomic(&path, b"old").unwrap();
    let full = |file: &mut File| {
        file.write_all(b"half of the ne")?;
        Err(io::Error::from(io::ErrorKind::StorageFull))
    };
    let error = replace(&path, full).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Io);
    assert!(error.message.contains("data.bin"), "{error}");
    assert_eq!(read_file(&path).unwrap(), b"old");
    assert_eq!(names(scratch.path()), ["data.bin"]);
}

#[test]
fn a_folder_is_not_replaced_by_a_file() {
    let scratch = Scratch::new();
    let path = scratch.path().join("there");
    std::fs::create_dir(&path).unwrap();
    std::fs::write(path.join("kept"), "kept").unwrap();
    assert_eq!(write_atomic(&path, b"new").unwrap_err().kind, ErrorKind::Io);
    assert_eq!(names(scratch.path()), ["there"]);
    assert_eq!(names(&path), ["kept"]);
    assert_eq!(write_atomic(&scratch.path().join("no/such"), b"new").unwrap_err().kind, ErrorKind::Io);
    assert_eq!(write_atomic(Path::new("/"), b"new").unwrap_err().kind, ErrorKind::Argument);
}

#[cfg(unix)]
#[test]
fn a_folder_without_permission_keeps_its_files() {
    use std::os::unix::fs::PermissionsExt;
    let scratch = Scratch::new();
    let (path, folder) = (scratch.path().join("data.bin"), scratch.path().join("step-1"));
    write_atomic(&path, b"old").unwrap();
    let allow = |mode| std::fs::set_permissions(scratch.path(), PermissionsExt::from_mode(mode)).unwrap();
    allow(0o555);
    if File::create(scratch.path().join("probe")).is_ok() {
        println!("skipped: this user may write everywhere");
    } else {
        assert_eq!(write_atomic(&path, b"new").unwrap_err().kind, ErrorKind::Io);
        assert_eq!(FolderWriter::create(&folder).err().unwrap().kind, ErrorKind::Io);
        assert_eq!(read_file(&path).unwrap(), b"old");
        assert_eq!(names(scratch.path()), ["data.bin"]);
    }
    allow(0o755);
}

#[test]
fn threads_that_write_the_same_file_leave_one_of_their_contents() {
    let scratch = Scratch::new();
    let path = scratch.path().join("data.bin");
    std::thread::scope(|scope| {
        for i in 0..8u8 {
            let path = &path;
            scope.spawn(move || (0..20).for_each(|_| write_atomic(path, &[i; 1000]).unwrap()));
        }
    });
    let contents = read_file(&path).unwrap();
    assert!(contents.len() == 1000 && contents.iter().all(|byte| *byte == contents[0]));
    assert_eq!(names(scratch.path()), ["data.bin"]);
}

/// A kill while a file is written leaves a temporary one, which the next write of that file takes away.
#[test]
fn what_killed_processes_left_of_a_file_is_removed() {
    let scratch = Scratch::new();
    let path = scratch.path().join("data.bin");
    let put = |name: &str| std::fs::write(scratch.path().join(name), "half").unwrap();
    // No process has a number above 2^22 on Linux.
    let left = [".data.bin.tmp-4194999", ".data.bin.tmp-4194999-0", ".data.bin.tmp-4194998-17"];
    let own = format!(".data.bin.tmp-{}-4000000000", std::process::id());
    let mut others = vec![&own[..], ".data.bin.tmp-x", ".data.bin.tmp-04194999", ".other.bin.tmp-4194999-0"];
    left.iter().chain(&others).for_each(|name| put(name));
    std::fs::create_dir(scratch.path().join(".data.bin.tmp-4194997")).unwrap();
    others.extend(["data.bin", ".data.bin.tmp-4194997"]);
    others.sort();
    write_atomic(&path, b"whole").unwrap();
    assert_eq!(names(scratch.path()), others);
    assert_eq!(read_file(&path).unwrap(), b"whole");
    // Of a process elsewhere, whose number says nothing here, there is the lock.
    put(left[1]);
    let writer = File::open(scratch.path().join(left[1])).unwrap();
    writer.lock().unwrap();
    write_atomic(&path, b"whole").unwrap();
    assert!(names(scratch.path()).iter().any(|name| name == left[1]));
    drop(writer);
    write_atomic(&path, b"whole").unwrap();
    assert_eq!(names(scratch.path()), others);
}

#[test]
fn short_and_interrupted_reads_go_on() {
    let text = b"the whole contents";
    let mut calls = 0;
    let read = |buffer: &mut [u8], offset: u64| {
        calls += 1;
        if calls % 3 == 0 {
            return Err(io::Error::from(io::ErrorKind::Interrupted));
        }
        let rest = &text[offset as usize..];
        let count = rest.len().min(4).min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    };
    assert_eq!(read_exactly(text.len(), Path::new("x"), &|| Ok(()), read).unwrap(), text);
}

#[test]
fn a_file_that_shrinks_while_it_is_read_is_an_io_error() {
    let scratch = Scratch::new();
    let path = scratch.path().join("log.txt");
    std::fs::write(&path, [b'x'; 100]).unwrap();
    let file = File::options().read(true).write(true).open(&path).unwrap();
    let shrinking = |buffer: &mut [u8], offset: u64| {
        let piece = buffer.len().min(60);
        let count = read_at(&file, &mut buffer[..piece], offset)?;
        file.set_len(70)?;
        Ok(count)
    };
    let error = read_exactly(100, &path, &|| Ok(()), shrinking).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Io);
    assert!(error.message.contains("had 100 bytes, and ended at 70"), "{error}");
}

#[test]
fn pipes_are_read_to_their_end() {
    let (reader, mut writer) = io::pipe().unwrap();
    let contents: Vec<u8> = (0..200_000u32).map(|i| i as u8).collect();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            writer.write_all(&contents).unwrap();
            drop(writer);
        });
        assert_eq!(read_stream(reader, Path::new("pipe"), &|| Ok(())).unwrap(), contents);
    });
    #[cfg(unix)]
    assert_eq!(read_file(Path::new("/dev/null")).unwrap(), b"");
}

#[test]
fn what_is_no_file_is_an_io_error() {
    let scratch = Scratch::new();
    for path in [scratch.path().to_path_buf(), scratch.path().join("absent")] {
        let error = read_file(&path).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Io);
        assert!(error.message.contains(&path.display().to_string()), "{error}");
    }
}

#[test]
fn a_folder_appears_at_commit() {
    let scratch = Scratch::new();
    let above = scratch.path().join("runs/first");
    let path = above.join("step-1");
    let mut writer = FolderWriter::create(&path).unwrap();
    writer.write("a.bin", b"first").unwrap();
    writer.write("b.bin", b"").unwrap();
    assert!(!path.exists());
    assert_eq!(names(&above), [format!(".step-1.tmp-{}", std::process::id())]);
    writer.commit().unwrap();
    assert_eq!(names(&above), ["step-1"]);
    assert_eq!(names(&path), ["a.bin", "b.bin"]);
    assert_eq!(read_file(&path.join("a.bin")).unwrap(), b"first");
}

#[test]
fn a_folder_that_is_not_committed_leaves_nothing() {
    let scratch = Scratch::new();
    let path = scratch.path().join("step-1");
    let mut writer = FolderWriter::create(&path).unwrap();
    writer.write("a.bin", b"first").unwrap();
    assert_eq!(writer.write("a.bin", b"again").unwrap_err().kind, ErrorKind::Io);
    for name in ["../a.bin", "sub/a.bin", "", "..", "/a.bin", "a.bin/"] {
        assert_eq!(writer.write(name, b"x").unwrap_err().kind, ErrorKind::Argument, "{name:?}");
    }
    drop(writer);
    assert!(names(scratch.path()).is_empty());
}

#[test]
fn a_folder_with_files_in_it_is_not_replaced() {
    let scratch = Scratch::new();
    let path = scratch.path().join("step-1");
    let mut first = FolderWriter::create(&path).unwrap();
    first.write("a.bin", b"first").unwrap();
    first.commit().unwrap();
    let mut second = FolderWriter::create(&path).unwrap();
    second.write("a.bin", b"second").unwrap();
    assert_eq!(second.commit().unwrap_err().kind, ErrorKind::Io);
    assert_eq!(read_file(&path.join("a.bin")).unwrap(), b"first");
    assert_eq!(names(scratch.path()), ["step-1"]);
}

#[test]
fn one_writer_at_a_time_and_left_overs_give_way() {
    let scratch = Scratch::new();
    let path = scratch.path().join("step-1");
    let left = scratch.path().join(format!(".step-1.tmp-{}", std::process::id()));
    std::fs::create_dir(&left).unwrap();
    std::fs::write(left.join("old.bin"), "of a killed process").unwrap();
    let mut writer = FolderWriter::create(&path).unwrap();
    let error = FolderWriter::create(&path).err().unwrap();
    assert_eq!(error.kind, ErrorKind::State);
    assert!(error.message.contains("step-1 is being written already"), "{error}");
    writer.write("a.bin", b"first").unwrap();
    writer.commit().unwrap();
    assert_eq!(names(&path), ["a.bin"]);
}
