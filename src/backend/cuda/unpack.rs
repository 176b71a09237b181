//! The kernels as build.rs packed them (`pack.rs`).

use crate::tensor::error::{Result, error};
use crate::tensor::vec_zeroed;
use miniz_oxide::inflate::decompress_slice_iter_to_slice;
use std::io::Write;

/// Stands for a register's number, as in `pack.rs`.
const NUMBER: u8 = 1;

/// PTX with a NUL at its end.
pub fn unpack(packed: &[u8]) -> Result<Vec<u8>> {
    unpacked(packed)?.ok_or_else(|| error!(Internal, "kernels of this build are damaged"))
}

/// None if it is damaged.
fn unpacked(packed: &[u8]) -> Result<Option<Vec<u8>>> {
    let Some((sizes, packed)) = packed.split_first_chunk::<16>() else { return Ok(None) };
    let size = |i: usize| u32::from_le_bytes([0, 1, 2, 3].map(|byte| sizes[4 * i + byte])) as usize;
    let Some((text, ranks)) = packed.split_at_checked(size(3)) else { return Ok(None) };
    let (text, ranks) = (inflate(text, size(1))?, inflate(ranks, size(2))?);
    let (Some(text), Some(ranks)) = (text, ranks) else { return Ok(None) };
    let mut ptx = vec_zeroed(size(0))?;
    let complete = restore(&text, &ranks, &mut ptx).is_some_and(|left| left == 0);
    Ok(complete.then_some(ptx))
}

fn inflate(deflated: &[u8], size: usize) -> Result<Option<Vec<u8>>> {
    let mut bytes = vec_zeroed(size)?;
    let inflated = decompress_slice_iter_to_slice(&mut bytes, std::iter::once(deflated), false, false);
    Ok((inflated == Ok(size)).then_some(bytes))
}

/// Writes the text with its numbers; how much space is left behind it.
fn restore(text: &[u8], ranks: &[u8], mut ptx: &mut [u8]) -> Option<usize> {
    let mut ranks = ranks.iter();
    let mut kinds: Vec<(&[u8], Vec<u32>)> = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.iter().position(|&byte| byte == b'%') {
        let letters = rest[at + 1..].iter().take_while(|byte| byte.is_ascii_lowercase()).count();
        let (before, after) = rest.split_at(at + 1 + letters);
        let kind = &before[at + 1..];
        ptx.write_all(before).ok()?;
        rest = after;
        match after.first() {
            Some(b'<') => {
                kinds.retain(|(known, _)| *known != kind);
                kinds.push((kind, Vec::new()));
            }
            Some(&NUMBER) => {
                let (_, used) = kinds.iter_mut().find(|(known, _)| *known == kind)?;
                let number = match rank(&mut ranks)? {
                    0 => used.len() as u32 + 1,
                    since => used.remove(used.len().checked_sub(since)?),
                };
                used.push(number);
                write!(ptx, "{number}").ok()?;
                rest = &after[1..];
            }
            _ => {}
        }
    }
    ptx.write_all(rest).ok()?;
    ranks.next().is_none().then_some(ptx.len())
}

fn rank(ranks: &mut std::slice::Iter<u8>) -> Option<usize> {
    let mut rank = 0;
    for shift in [0, 7, 14, 21] {
        let byte = *ranks.next()?;
        rank |= usize::from(byte & 127) << shift;
        if byte < 128 {
            return Some(rank);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::pack::pack;
    use super::*;
    use std::fs;

    #[test]
    fn every_file_is_what_it_was() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/cuda/ptx");
        for file in fs::read_dir(folder).unwrap() {
            let text = fs::read_to_string(file.unwrap().path()).unwrap();
            let packed = pack(&text).unwrap();
            assert!(unpack(&packed).unwrap() == text.as_bytes());
            assert!(5 * packed.len() < text.len(), "{} of {}", packed.len(), text.len());
        }
    }

    #[test]
    fn numbers_are_kept_wherever_they_stand() {
        let kernel =
            ".reg .b32 %r<9>; .reg .f32 %f<2>; add %r1, %tid.x, %envreg3; add %r2, %r1, %r1; %f1 %r3 %r2 %r1 %r200x %%";
        let packed = |text: &str| pack(text).map(|packed| unpack(&packed).unwrap());
        // 200 is not the next.
        assert_eq!(packed(kernel), None);
        let kernel = kernel.replace("200", "4");
        assert_eq!(packed(&kernel).unwrap(), kernel.as_bytes());
        // The next kernel counts anew; far ranks have two bytes.
        let many: String = (1..300).map(|i| format!(" %r{i}")).collect();
        let two = format!("{kernel}\n.reg .b32 %r<300>;{many} %r1 %r299 %r150 %r2");
        assert_eq!(packed(&two).unwrap(), two.as_bytes());
        assert_eq!(packed("").unwrap(), b"");
    }

    #[test]
    fn damage_is_found() {
        let packed = pack(".reg .b32 %r<9>; add %r1, %r2, %r1;").unwrap();
        for length in 0..packed.len() {
            assert!(unpack(&packed[..length]).is_err(), "{length}");
        }
        for byte in 0..16 {
            let mut damaged = packed.clone();
            damaged[byte] ^= 1;
            assert!(unpack(&damaged).is_err(), "{byte}");
        }
    }
}
