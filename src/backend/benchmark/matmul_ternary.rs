use super::cases::{Call, Cases, Work, call, codes, normal, packed, prepare, zeros, zeros_of};
use crate::tensor::{DType, MaskSign, Packing, Result, Tensor};

pub fn cases(cases: &mut Cases) {
    let two = Packing::TwoBit;
    // Rows of x, rows of w, columns; the group. Of size S; inference, one token at a time, in the caches and beyond; few rows
    // and many.
    let sizes =
        [([64, 128, 128], 0), ([768, 128, 512], 0), ([768, 512, 128], 0), ([1, 2048, 2048], 0), ([1, 32_768, 2048], 0)];
    let rows = [([4, 2048, 2048], 0), ([64, 2048, 2048], 0), ([256, 2048, 2048], 0)];
    let groups = [([1, 2048, 2048], 128), ([256, 2048, 2048], 128), ([1, 2048, 2048], 2048), ([256, 2048, 2048], 2048)];
    for (sizes, group) in sizes.into_iter().chain(rows).chain(groups) {
        add(cases, two, sizes, group);
    }
    cases.only_gpu(true);
    let large = [([1, 32_768, 16_384], 0), ([16, 32_768, 16_384], 0), ([4096, 4096, 4096], 0), ([16_384, 384, 384], 0)];
    for (sizes, group) in large.into_iter().chain([([4096, 4096, 4096], 128)]) {
        add(cases, two, sizes, group);
    }
    cases.only_gpu(false);
    for packing in [Packing::FivePerByte, Packing::MaskSign] {
        for (sizes, group) in [([1, 2048, 2048], 0), ([1, 2048, 2048], 128), ([256, 2048, 2048], 0)] {
            add(cases, packing, sizes, group);
        }
    }
    for m in [1, 2, 3, 12, 13, 14, 19, 25, 37] {
        for [n, k] in [[7, 4], [33, 260], [97, 1028], [16, 8196]] {
            for (packing, group) in
                [(two, 0), (two, 64), (two, 100), (Packing::FivePerByte, 0), (Packing::MaskSign, 50)]
            {
                // Groups of any width above k are rows, and still cases of their own.
                let name = format!("{m} x {n} x {k}, {}, groups of {group}", packing.name());
                cases.add_odd("matmul_ternary", name, move || product(packing, [m, n, k], group));
            }
        }
    }
    for (packing, [m, n, k], group) in [
        (two, [64, 128, 128], 0),
        (two, [768, 128, 512], 0),
        (two, [256, 1024, 1024], 128),
        (Packing::FivePerByte, [256, 1024, 1024], 0),
        (two, [4096, 4096, 4096], 0),
    ] {
        cases.only_gpu(m == 4096);
        let work = Work::float_products(m * n * k, 4 * m * n + bytes(packing, n, k), 4 * m * k);
        cases.add("matmul_ternary_backward", name(packing, [m, n, k], group), work, move || {
            let (dy, packed, scales) = (normal(&[m, n], 1)?, weights(packing, n, k)?, scales(n, k, group)?);
            let mut dx = zeros(&[m, k])?;
            call(move |kernels, launch| {
                let (dy, packed, scales) = (dy.view(), packed.view(), scales.view());
                (kernels.matmul_ternary_backward)(
                    launch,
                    &dy,
                    packing,
                    &packed,
                    group,
                    &scales,
                    false,
                    &mut dx.view_mut(),
                )
            })
        });
    }
}

fn name(packing: Packing, [m, n, k]: [usize; 3], group: usize) -> String {
    let group = match group {
        0 => String::new(),
        width if width >= k => ", a scale a row".into(),
        width => format!(", a scale for {width}"),
    };
    let packing = if packing == Packing::TwoBit { String::new() } else { format!(", {}", packing.name()) };
    format!("{m} x {n} x {k}{packing}{group}")
}

fn add(cases: &mut Cases, packing: Packing, [m, n, k]: [usize; 3], group: usize) {
    let read = m * k + 4 * m + bytes(packing, n, k) + 4 * scale_count(n, k, group);
    let work = match m {
        1 => Work::packed_products(n * k, read, 4 * n),
        _ => Work::int8_products(m * n * k, read, 4 * m * n),
    };
    cases.add("matmul_ternary", name(packing, [m, n, k], group), work, move || product(packing, [m, n, k], group));
}

/// About a third of the trits are zeros.
fn bytes(packing: Packing, n: usize, k: usize) -> usize {
    let form = MaskSign::new(n, k);
    match packing {
        Packing::TwoBit => n * k.div_ceil(4),
        Packing::FivePerByte => n * k.div_ceil(5),
        Packing::MaskSign => form.signs() + (form.largest() - form.signs()) * 2 / 3,
    }
}

fn weights(packing: Packing, n: usize, k: usize) -> Result<Tensor> {
    let two_bit = packed(n, k, 3)?;
    let mut size = n * k.div_ceil(5);
    if packing == Packing::MaskSign {
        prepare(|kernels, launch| {
            size = (kernels.mask_sign_bytes)(launch, &two_bit.view(), k)?;
            Ok(())
        })?;
    }
    match packing {
        Packing::TwoBit => Ok(two_bit),
        Packing::FivePerByte => {
            let mut five = zeros_of(DType::U8, &[n, k.div_ceil(5)])?;
            prepare(|kernels, launch| (kernels.pack_five)(launch, &two_bit.view(), k, &mut five.view_mut()))?;
            Ok(five)
        }
        Packing::MaskSign => {
            let mut both = zeros_of(DType::U8, &[size])?;
            prepare(|kernels, launch| (kernels.pack_mask_sign)(launch, &two_bit.view(), k, &mut both.view_mut()))?;
            Ok(both)
        }
    }
}

fn scale_count(n: usize, k: usize, group: usize) -> usize {
    if group == 0 { 1 } else { n * k.div_ceil(group) }
}

fn scales(n: usize, k: usize, group: usize) -> Result<Tensor> {
    if group == 0 { normal(&[1], 4) } else { normal(&[n, k.div_ceil(group)], 4) }
}

fn product(packing: Packing, [m, n, k]: [usize; 3], group: usize) -> Result<Call> {
    let (codes, scales_of_x) = (codes(&[m, k], 1)?, normal(&[m], 2)?);
    let (packed, scales, mut y) = (weights(packing, n, k)?, scales(n, k, group)?, zeros(&[m, n])?);
    call(move |kernels, launch| {
        let (codes, scales_of_x, packed, scales) = (codes.view(), scales_of_x.view(), packed.view(), scales.view());
        (kernels.matmul_ternary)(
            launch,
            &codes,
            &scales_of_x,
            packing,
            &packed,
            group,
            &scales,
            None,
            &mut y.view_mut(),
        )
    })
}
