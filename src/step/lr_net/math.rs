//! exp, ln and tanh out of additions, multiplications and divisions in f64, which IEEE 754 fixes to the last bit: those of
//! libm differ between C libraries and their versions, and then a run would differ between machines.

const LOG2_E: f64 = std::f64::consts::LOG2_E;
/// ln 2 in two parts; the first ends in zeros, so that an integer times it is exact (fdlibm, e_exp.c).
const LN_2: [f64; 2] = [6.931_471_803_691_238e-1, 1.908_214_929_270_587_7e-10];

/// e^x for |x| up to 700, within 2 units in the last place; exactly 1 at 0.
///
/// x = k ln 2 + r with |r| <= ln 2 / 2, and the Taylor series of e^r: what is left out is r^14 / 14! < 5e-18.
pub fn exp(x: f64) -> f64 {
    let k = (x * LOG2_E).round();
    let r = (x - k * LN_2[0]) - k * LN_2[1];
    let series = (1..14).rev().fold(1.0, |sum, n| 1.0 + sum * (r / f64::from(n)));
    series * f64::from_bits(((1023 + k as i64) as u64) << 52)
}

/// The natural logarithm of x > 0, finite; of numbers below the least normal one, that of it.
///
/// x = m 2^k with m in [sqrt(1/2), sqrt 2), and ln m = 2 artanh(s), s = (m - 1) / (m + 1), |s| < .172: what is left out of its
/// series is s^23 / 23 < 2e-19.
pub fn ln(x: f64) -> f64 {
    let bits = x.max(f64::MIN_POSITIVE).to_bits();
    let (mut k, mut m) = ((bits >> 52) as i64 - 1023, f64::from_bits((bits & ((1 << 52) - 1)) | 1023 << 52));
    if m >= std::f64::consts::SQRT_2 {
        (k, m) = (k + 1, m / 2.0);
    }
    let s = (m - 1.0) / (m + 1.0);
    let series = (0..11).rev().fold(0.0, |sum, n| 1.0 / f64::from(2 * n + 1) + sum * (s * s));
    (k as f64) * LN_2[0] + (2.0 * s * series + (k as f64) * LN_2[1])
}

/// Within 2e-16, never beyond -1 or 1, odd, and exactly 0 at 0.
pub fn tanh(x: f64) -> f64 {
    // Beyond 20 it is 1 - 1e-17.
    let e = exp(-2.0 * x.abs().min(20.0));
    ((1.0 - e) / (1.0 + e)).copysign(x)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_the_functions() {
        for i in -4000..=4000 {
            let x = f64::from(i) / 173.0;
            assert!((exp(x) / x.exp() - 1.0).abs() < 1e-15, "exp {x}");
            assert!((tanh(x) - x.tanh()).abs() < 3e-16 && tanh(-x) == -tanh(x), "tanh {x}");
            let y = x.exp();
            assert!((ln(y) - y.ln()).abs() <= 4e-16 * y.ln().abs().max(1.0), "ln {y}");
        }
        assert_eq!((exp(0.0), exp(-0.0), tanh(0.0), tanh(1e300), ln(1.0)), (1.0, 1.0, 0.0, 1.0, 0.0));
        assert_eq!((ln(0.0), ln(1e-310)), (ln(f64::MIN_POSITIVE), ln(f64::MIN_POSITIVE)));
        assert!((ln(f64::MAX) - f64::MAX.ln()).abs() < 1e-12);
    }

    /// What the factors of every machine must be: a change of one bit here is another format of all runs.
    #[test]
    fn their_bits_are_fixed() {
        let found: Vec<u64> = [0.1, 0.7, -3.3, 11.0]
            .iter()
            .flat_map(|&x: &f64| [exp(x), tanh(x), ln(x.abs())])
            .map(f64::to_bits)
            .collect();
        assert_eq!(found, BITS);
    }

    const BITS: [u64; 12] = [
        0x3ff1_aec7_b35a_00d4,
        0x3fb9_83d7_795f_413c,
        0xc002_6bb1_bbb5_5515,
        0x4000_1c2a_6126_8987,
        0x3fe3_56fb_17af_2e91,
        0xbfd6_d3c3_24e1_3f4f,
        0x3fa2_e259_bb85_be84,
        0xbfef_e9bd_f44f_7c04,
        0x3ff3_1a4e_7240_c777,
        0x40ed_3c44_88ee_4f7f,
        0x3fef_ffff_ffb3_52dd,
        0x4003_2ee3_b77f_374c,
    ];
}
