//! The weights that a network begins with, in the order of [`Weights`]: W row by row, b, v, a.
//!
//! The network that was trained for this place did not pass its gate (the README has the table), so these are weights that multiply
//! by 1. W is uniform with the standard deviation 1 / sqrt(9): (2 u - 1) / sqrt(3), rounded to six places, u being the numbers of
//! the Philox stream of seed 0 and purpose Initialize. b and the head are 0: every factor is 1.

use super::network::Weights;

#[rustfmt::skip]
pub const DEFAULT: Weights = [
    0.187031, -0.364482, -0.176103, -0.159976, 0.485438, 0.492901, -0.359114, -0.044891, -0.380579,
    0.067165, -0.518821, 0.196191, -0.452633, 0.050942, 0.523923, -0.437533, 0.282550, 0.221584,
    0.151504, -0.051768, -0.205044, 0.179736, -0.100649, -0.552042, 0.116237, -0.076433, 0.518352,
    0.502352, 0.369733, -0.269182, 0.014070, 0.131594, -0.547951, -0.080484, 0.260318, -0.287697,
    0.349787, 0.399201, 0.137752, 0.252583, -0.222003, -0.039280, 0.091750, 0.158660, 0.433844,
    -0.198724, -0.185793, -0.093266, -0.114424, 0.536547, 0.282819, 0.075738, -0.315737, 0.004003,
    -0.517346, 0.344026, 0.245951, 0.372516, -0.252206, 0.381691, -0.365395, 0.037924, -0.036487,
    -0.463893, 0.254714, 0.065434, 0.315147, 0.265058, -0.138604, -0.313619, -0.379653, -0.222895,
    -0.244654, 0.548844, -0.345514, 0.221584, 0.445370, -0.145741, 0.097553, -0.468220, 0.551461,
    0.493551, -0.238369, 0.117244, -0.418213, 0.018827, 0.122999, -0.469805, -0.266837, -0.173034,
    0.175985, -0.235767, 0.336814, -0.062717, -0.089615, -0.233437, -0.291390, 0.335389, 0.519767,
    -0.200010, -0.531794, 0.517280, 0.436121, 0.306333, -0.406877, 0.333493, -0.224904, 0.358040,
    0., 0., 0., 0., 0., 0., 0., 0., 0., 0., 0., 0.,
    0., 0., 0., 0., 0., 0., 0., 0., 0., 0., 0., 0.,
    0.,
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::random::{Purpose, Stream};

    #[test]
    fn they_are_what_their_rule_says() {
        let stream = Stream::new(0, Purpose::Initialize, 0, 0);
        for (i, weight) in DEFAULT.iter().enumerate() {
            let rule = if i < 108 { (2.0 * stream.uniform_f64(i as u64) - 1.0) / 3f64.sqrt() } else { 0.0 };
            assert!((weight - rule).abs() <= 5.1e-7, "{i}: {weight} {rule}");
        }
    }
}
