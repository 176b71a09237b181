use super::math::{load_part, load_up_to, store_part};
use super::reduce::{BLOCK, LANES, fold};
use super::vector::{load, store};
use wide::f32x8;

/// The scalars of one update, folded so that an element costs one square root and one division:
/// p -= learning_rate * weight_decay * p + m * step / (sqrt(v * inverse2) + epsilon).
#[repr(C)]
pub struct AdamWFactors {
    pub gradient_scale: f32,
    /// 1 - beta1 and 1 - beta2.
    pub rate1: f32,
    pub rate2: f32,
    /// learning_rate / correction1.
    pub step: f32,
    /// 1 / correction2.
    pub inverse2: f32,
    pub epsilon: f32,
    /// learning_rate * weight_decay.
    pub decay: f32,
}

/// The same, one to a lane.
struct Factors {
    gradient_scale: f32x8,
    rate1: f32x8,
    rate2: f32x8,
    step: f32x8,
    inverse2: f32x8,
    epsilon: f32x8,
    decay: f32x8,
}

impl Factors {
    #[inline(always)]
    fn of(f: &AdamWFactors) -> Factors {
        Factors {
            gradient_scale: f32x8::splat(f.gradient_scale),
            rate1: f32x8::splat(f.rate1),
            rate2: f32x8::splat(f.rate2),
            step: f32x8::splat(f.step),
            inverse2: f32x8::splat(f.inverse2),
            epsilon: f32x8::splat(f.epsilon),
            decay: f32x8::splat(f.decay),
        }
    }

    /// What is subtracted from p, and the new m and v.
    #[inline(always)]
    fn change(&self, gradient: f32x8, [p, m, v]: [f32x8; 3]) -> [f32x8; 3] {
        let g = gradient * self.gradient_scale;
        let m = self.rate1.mul_add(g - m, m);
        let v = self.rate2.mul_add(g * g - v, v);
        let update = m * self.step / ((v * self.inverse2).sqrt() + self.epsilon);
        [self.decay.mul_add(p, update), m, v]
    }

    #[inline(always)]
    fn update(&self, gradient: f32x8, states: [f32x8; 3]) -> [f32x8; 3] {
        let [change, m, v] = self.change(gradient, states);
        [states[0] - change, m, v]
    }
}

pub unsafe extern "C" fn adamw(
    factors: *const AdamWFactors,
    gradient: *const f32,
    parameter: *mut f32,
    m: *mut f32,
    v: *mut f32,
    n: usize,
) {
    let factors = Factors::of(&*factors);
    let states = [parameter, m, v];
    let mut i = 0;
    while i + 8 <= n {
        let updated = factors.update(load(gradient.add(i)), states.map(|s| load(s.add(i))));
        for (state, value) in states.into_iter().zip(updated) {
            store(state.add(i), value);
        }
        i += 8;
    }
    let rest = n - i;
    if rest > 0 {
        let updated =
            factors.update(load_part(gradient.add(i), rest, 0.0), states.map(|s| load_part(s.add(i), rest, 0.0)));
        for (state, value) in states.into_iter().zip(updated) {
            store_part(state.add(i), value, rest);
        }
    }
}

pub unsafe extern "C" fn adamw_squares(
    factors: *const AdamWFactors,
    gradient: *const f32,
    parameter: *const f32,
    m: *const f32,
    v: *const f32,
    n: usize,
    sums: *mut f32,
) {
    let factors = Factors::of(&*factors);
    let inputs = [gradient, parameter, m, v];
    let mut start = 0;
    let mut block = 0;
    while start < n {
        let end = if n - start < BLOCK { n } else { start + BLOCK };
        let (mut changes, mut parameters) = ([f32x8::ZERO; 4], [f32x8::ZERO; 4]);
        let mut add = |j: usize, [gradient, p, m, v]: [f32x8; 4]| {
            let [change, ..] = factors.change(gradient, [p, m, v]);
            changes[j] += change * change;
            parameters[j] += p * p;
        };
        let mut i = start;
        while i + LANES <= end {
            for j in 0..LANES / 8 {
                add(j, inputs.map(|x| load(x.add(i + 8 * j))));
            }
            i += LANES;
        }
        for j in 0..LANES / 8 {
            let at = i + 8 * j;
            if at < end {
                // What is missing of a vector is 0 in all four, and changes nothing: see `block_sum`.
                add(j, inputs.map(|x| load_up_to(x.add(at), end - at)));
            }
        }
        *sums.add(2 * block) = fold(changes);
        *sums.add(2 * block + 1) = fold(parameters);
        start += BLOCK;
        block += 1;
    }
}
