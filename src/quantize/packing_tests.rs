use super::*;
use crate::backend::{Backend, ContextOptions};
use crate::tensor::ErrorKind;
use crate::tensor::random::{Purpose, Stream};

fn context() -> Context {
    Context::new(&ContextOptions { backend: Some(Backend::Simd), ..ContextOptions::default() }).unwrap()
}

fn random_trits(count: usize) -> Vec<i8> {
    let stream = Stream::new(1, Purpose::Test, 0, 0);
    (0..count as u64).map(|i| (stream.bits(i) % 3) as i8 - 1).collect()
}

/// Trits of which about so many of ten are zero.
fn trits_with_zeros(count: usize, zeros: u64) -> Vec<i8> {
    let (stream, signs) = (Stream::new(2, Purpose::Test, 0, 0), random_trits(count));
    (0..count as u64).zip(signs).map(|(i, sign)| if stream.below(i, 10) < zeros { 0 } else { sign | 1 }).collect()
}

fn packed(context: &Context, matrix: &Matrix) -> Vec<u8> {
    let mut packed = vec![0xEE; matrix.bytes()];
    let used = pack(context, matrix, &random_trits(matrix.count()), &mut packed).unwrap();
    packed.truncate(used);
    packed
}

#[test]
fn bytes_are_the_documented_sums() {
    let (context, trits) = (context(), [1, -1, 0, 1, -1]);
    for (packing, bytes) in [
        (Packing::TwoBit, &[2 + 4 + 2 * 64 - 4 + 16, 1 << 2 | 1 << 4 | 1 << 6][..]),
        (Packing::FivePerByte, &[2 + 9 + 2 * 27]),
        (Packing::MaskSign, &[0, 0, 0, 0, 0b11011, 0b1010]),
    ] {
        let matrix = Matrix::new(1, 5, packing).unwrap();
        let mut packed = [0; 9];
        let used = pack(&context, &matrix, &trits, &mut packed).unwrap();
        assert_eq!(&packed[..used], bytes, "{packing:?}");
    }
}

#[test]
fn every_packing_becomes_every_other() {
    let context = context();
    for (rows, columns) in
        [(0, 0), (0, 7), (3, 0), (1, 1), (2, 4), (2, 5), (3, 7), (5, 63), (2, 65), (2, 257), (1, 4099), (3000, 3)]
    {
        let trits = random_trits(rows * columns);
        for from in Packing::ALL {
            let matrix = Matrix::new(rows, columns, from).unwrap();
            let bytes = packed(&context, &matrix);
            matrix.check_packed(&context, &bytes).unwrap();
            let mut back = vec![9; trits.len()];
            unpack(&context, &matrix, &bytes, &mut back).unwrap();
            assert_eq!(trits, back, "{matrix:?}");
            let count = |value: i8| trits.iter().filter(|&&t| t == value).count() as i64;
            assert_eq!(histogram(&context, &matrix, &bytes).unwrap(), [count(-1), count(0), count(1)], "{matrix:?}");
            for to in Packing::ALL {
                let target = matrix.packed_as(to);
                let expected = packed(&context, &target);
                let mut found = vec![0xEE; expected.len()];
                assert_eq!(repack(&context, &matrix, &bytes, to, &mut found).unwrap(), expected.len());
                assert_eq!(found, expected, "{matrix:?} to {to:?}");
                if let Some(short) = expected.len().checked_sub(1) {
                    let mut room = vec![0xEE; short];
                    let error = repack(&context, &matrix, &bytes, to, &mut room).unwrap_err();
                    assert_eq!(error.kind, ErrorKind::Shape);
                    let needs = format!("out_size is {short}, [{rows}, {columns}] trits take {} bytes", expected.len());
                    assert!(error.message.contains(&needs) && room.iter().all(|&b| b == 0xEE), "{error}");
                }
            }
        }
    }
}

#[test]
fn a_byte_that_is_no_trits_is_named() {
    let context = context();
    for (packing, bad) in [(Packing::TwoBit, 0b01_11_01_01), (Packing::FivePerByte, 243)] {
        let matrix = Matrix::new(40, 100, packing).unwrap();
        let good = packed(&context, &matrix);
        for index in [0, 1, matrix.bytes() - 1] {
            let mut damaged = good.clone();
            damaged[index] = bad;
            let error = matrix.check_packed(&context, &damaged).unwrap_err();
            assert_eq!(error.kind, ErrorKind::Format);
            assert!(error.message.starts_with(&format!("byte {index} of packed")), "{}", error.message);
            let mut trits = vec![9; matrix.count()];
            let error = unpack(&context, &matrix, &damaged, &mut trits).unwrap_err();
            assert!(error.message.contains(&format!("byte {index} ")), "{error}");
            assert!(trits.iter().all(|&t| t == 9));
        }
    }
}

#[test]
fn a_trit_past_the_last_column_is_named() {
    let context = context();
    for (packing, per_byte, bad) in [(Packing::TwoBit, 4, 0b01_01_10_01), (Packing::FivePerByte, 5, 124)] {
        let matrix = Matrix::new(3, per_byte + 1, packing).unwrap();
        let mut damaged = packed(&context, &matrix);
        damaged[3] = bad;
        let error = matrix.check_packed(&context, &damaged).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Format);
        assert!(error.message.starts_with("byte 3 of packed"), "{}", error.message);
    }
    let matrix = Matrix::new(3, 9, Packing::MaskSign).unwrap();
    let mut damaged = packed(&context, &matrix);
    damaged[5] |= 4;
    let error = matrix.check_packed(&context, &damaged).unwrap_err();
    assert!(error.kind == ErrorKind::Format && error.message.starts_with("byte 5 of the packed trits"), "{error}");
}

#[test]
fn masks_that_disagree_with_their_signs_are_named() {
    let context = context();
    let matrix = Matrix::new(4, 2048, Packing::MaskSign).unwrap();
    let mut damaged = packed(&context, &matrix);
    let row = &mut damaged[16 + 2 * 256..16 + 3 * 256];
    let last = row.iter().position(|&byte| byte != 0xFF).unwrap();
    row[last..last + 20].fill(0xFF);
    let error = unpack(&context, &matrix, &damaged, &mut vec![0; matrix.count()]).unwrap_err();
    assert!(error.kind == ErrorKind::Format && error.message.starts_with("block 2 of the packed trits has"), "{error}");
}

#[test]
fn values_that_are_no_trits_leave_the_output_alone() {
    let matrix = Matrix::new(1, 4, Packing::TwoBit).unwrap();
    let mut packed = [7];
    let error = pack(&context(), &matrix, &[0, 1, 2, -3], &mut packed).unwrap_err();
    assert_eq!((error.kind, error.message.as_str()), (ErrorKind::Argument, "trits[2] is 2, expected -1, 0 or 1"));
    assert_eq!(packed, [7]);
}

#[test]
fn sizes_that_cannot_be_are_refused() {
    assert_eq!(Matrix::new(1, MAX_COLUMNS + 1, Packing::TwoBit).unwrap_err().kind, ErrorKind::Shape);
    assert_eq!(Matrix::new(usize::MAX, 2, Packing::TwoBit).unwrap_err().kind, ErrorKind::Shape);
    assert_eq!(Matrix::new(usize::MAX, 0, Packing::MaskSign).unwrap_err().kind, ErrorKind::Shape);
    let matrix = Matrix::new(2, 9, Packing::FivePerByte).unwrap();
    assert_eq!(matrix.check_size(&[0; 3]).unwrap_err().message, "packed has 3 bytes, [2, 9] trits take 4");
    let matrix = Matrix::new(2, 9, Packing::MaskSign).unwrap();
    assert_eq!(matrix.check_size(&[0; 7]).unwrap_err().message, "packed has 7 bytes, [2, 9] trits take from 8 to 11");
}

#[test]
fn every_share_of_zeros_comes_back() {
    let context = context();
    let odd = [1, 7, 63, 65, 257, 2049].into_iter().flat_map(|columns| [1, 3].map(|rows| (rows, columns)));
    for (rows, columns) in odd.chain([(5000, 7), (2000, 64), (40, 1001), (1, 100_003)]) {
        for zeros in [0, 4, 9, 10] {
            let trits = trits_with_zeros(rows * columns, zeros);
            let matrix = Matrix::new(rows, columns, Packing::MaskSign).unwrap();
            let mut bytes = vec![0xEE; matrix.bytes()];
            let used = pack(&context, &matrix, &trits, &mut bytes).unwrap();
            assert!(bytes[used..].iter().all(|&byte| byte == 0xEE), "{matrix:?} writes past what it uses");
            let nonzeros = trits.iter().filter(|&&t| t != 0).count();
            assert!(used - matrix.form().signs() >= nonzeros.div_ceil(8), "{matrix:?}");
            assert!(used < matrix.form().signs() + nonzeros.div_ceil(8) + matrix.form().blocks, "{matrix:?}");
            let mut back = vec![9; trits.len()];
            unpack(&context, &matrix, &bytes[..used], &mut back).unwrap();
            assert!(back == trits, "{matrix:?}, {zeros} of ten zero");
            let mut five = vec![0; matrix.packed_as(Packing::FivePerByte).bytes()];
            repack(&context, &matrix, &bytes[..used], Packing::FivePerByte, &mut five).unwrap();
            unpack(&context, &matrix.packed_as(Packing::FivePerByte), &five, &mut back).unwrap();
            assert!(back == trits, "{matrix:?}, {zeros} of ten zero, five a byte");
        }
    }
}

/// One matrix has one form: a changed bit is refused, or makes the form of another matrix.
#[test]
fn every_changed_bit_is_refused_or_is_another_matrix() {
    let context = context();
    for packing in Packing::ALL {
        for (rows, columns) in [(1, 1), (3, 7), (5, 9), (2, 64), (700, 7), (2, 2051)] {
            let matrix = Matrix::new(rows, columns, packing).unwrap();
            let good = packed(&context, &matrix);
            let mut trits = vec![0; matrix.count()];
            for bit in (0..8 * good.len()).step_by(if good.len() > 200 { 7 } else { 1 }) {
                let mut damaged = good.clone();
                damaged[bit / 8] ^= 1 << (bit % 8);
                trits.fill(9);
                match unpack(&context, &matrix, &damaged, &mut trits) {
                    Ok(()) => {
                        let mut again = vec![0xEE; matrix.bytes()];
                        let used = pack(&context, &matrix, &trits, &mut again).unwrap();
                        assert!(again[..used] == damaged, "{matrix:?}, bit {bit}");
                        matrix.check_packed(&context, &damaged).unwrap();
                    }
                    Err(error) => {
                        assert_eq!(error.kind, ErrorKind::Format, "{matrix:?}, bit {bit}: {error}");
                        assert!(error.message.contains("byte ") || error.message.contains("block "), "{error}");
                        assert!(trits.iter().all(|&t| t == 9), "{matrix:?}, bit {bit}: written in spite of {error}");
                        assert_eq!(matrix.check_packed(&context, &damaged).unwrap_err().kind, ErrorKind::Format);
                        assert_eq!(histogram(&context, &matrix, &damaged).unwrap_err().kind, ErrorKind::Format);
                    }
                }
            }
        }
    }
}

#[test]
fn what_is_cut_is_refused_at_every_length() {
    let context = context();
    for packing in Packing::ALL {
        for (rows, columns) in [(3, 7), (300, 9), (3, 2049)] {
            let matrix = Matrix::new(rows, columns, packing).unwrap();
            let good = packed(&context, &matrix);
            let longer = [&good[..], &[0]].concat();
            for bytes in (0..good.len()).map(|length| &good[..length]).chain([&longer[..]]) {
                let error = unpack(&context, &matrix, bytes, &mut vec![0; matrix.count()]).unwrap_err();
                assert!(matches!(error.kind, ErrorKind::Format | ErrorKind::Shape), "{matrix:?}: {error}");
            }
        }
    }
}
