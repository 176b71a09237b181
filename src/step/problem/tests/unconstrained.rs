//! Moré, Garbow and Hillstrom (ACM TOMS 7, 1981): the functions as they number them.

use super::Case;
use super::jet::{Jet, j};
use std::f64::consts::PI;

fn squares(terms: impl Iterator<Item = Jet>) -> Jet {
    terms.map(|t| t * t).sum()
}

pub fn rosenbrock(x: &[Jet]) -> Jet {
    x.chunks(2).map(|x| (x[1] - x[0] * x[0]).powi(2) * 100.0 + (-x[0] + 1.0).powi(2)).sum()
}

fn freudenstein_roth(x: &[Jet]) -> Jet {
    let (a, b) = (x[0], x[1]);
    (a - 13.0 + ((-b + 5.0) * b - 2.0) * b).powi(2) + (a - 29.0 + ((b + 1.0) * b - 14.0) * b).powi(2)
}

fn powell_badly_scaled(x: &[Jet]) -> Jet {
    (x[0] * x[1] * 1e4 - 1.0).powi(2) + ((-x[0]).exp() + (-x[1]).exp() - 1.0001).powi(2)
}

fn brown_badly_scaled(x: &[Jet]) -> Jet {
    (x[0] - 1e6).powi(2) + (x[1] - 2e-6).powi(2) + (x[0] * x[1] - 2.0).powi(2)
}

pub fn beale(x: &[Jet]) -> Jet {
    squares([1.5, 2.25, 2.625].iter().zip(1..).map(|(y, i)| -(x[0] * (-x[1].powi(i) + 1.0)) + *y))
}

fn jennrich_sampson(x: &[Jet]) -> Jet {
    squares((1..=10).map(f64::from).map(|i| -(x[0] * i).exp() - (x[1] * i).exp() + (2.0 + 2.0 * i)))
}

pub fn helical_valley(x: &[Jet]) -> Jet {
    let turn = if x[0].f > 0.0 { 0.0 } else { 0.5 };
    let theta = (x[1] / x[0]).atan() / (2.0 * PI) + turn;
    let radius = (x[0] * x[0] + x[1] * x[1]).powf(0.5);
    (x[2] - theta * 10.0).powi(2) * 100.0 + (radius - 1.0).powi(2) * 100.0 + x[2] * x[2]
}

pub fn bard(x: &[Jet]) -> Jet {
    const Y: [f64; 15] = [0.14, 0.18, 0.22, 0.25, 0.29, 0.32, 0.35, 0.39, 0.37, 0.58, 0.73, 0.96, 1.34, 2.10, 4.39];
    squares(Y.iter().zip(1..).map(|(y, i)| {
        let (u, v) = (f64::from(i), f64::from(16 - i));
        -(x[0] + j(u) / (x[1] * v + x[2] * u.min(v))) + *y
    }))
}

fn gaussian(x: &[Jet]) -> Jet {
    const Y: [f64; 15] = [
        9e-4, 4.4e-3, 0.0175, 0.054, 0.1295, 0.242, 0.3521, 0.3989, 0.3521, 0.242, 0.1295, 0.054, 0.0175, 4.4e-3, 9e-4,
    ];
    squares(Y.iter().zip(1..).map(|(y, i)| {
        let t = (8.0 - f64::from(i)) / 2.0;
        x[0] * (-(x[1] * (-x[2] + t).powi(2)) / 2.0).exp() - *y
    }))
}

fn meyer(x: &[Jet]) -> Jet {
    const Y: [f64; 16] = [
        34780.0, 28610.0, 23650.0, 19630.0, 16370.0, 13720.0, 11540.0, 9744.0, 8261.0, 7030.0, 6005.0, 5147.0, 4427.0,
        3820.0, 3307.0, 2872.0,
    ];
    squares(Y.iter().zip(1..).map(|(y, i)| x[0] * (x[1] / (x[2] + (45.0 + 5.0 * f64::from(i)))).exp() - *y))
}

fn gulf(x: &[Jet]) -> Jet {
    squares((1..100).map(|i| {
        let t = f64::from(i) / 100.0;
        let y = 25.0 + (-50.0 * t.ln()).powf(2.0 / 3.0);
        let far = -x[1] + y;
        let far = if far.f < 0.0 { -far } else { far };
        (-(far.ln() * x[2]).exp() / x[0]).exp() - t
    }))
}

fn box_three(x: &[Jet]) -> Jet {
    squares((1..=10).map(|i| {
        let t = 0.1 * f64::from(i);
        (-(x[0] * t)).exp() - (-(x[1] * t)).exp() - x[2] * ((-t).exp() - (-10.0 * t).exp())
    }))
}

fn powell_singular(x: &[Jet]) -> Jet {
    x.chunks(4)
        .map(|x| {
            (x[0] + x[1] * 10.0).powi(2)
                + (x[2] - x[3]).powi(2) * 5.0
                + (x[1] - x[2] * 2.0).powi(4)
                + (x[0] - x[3]).powi(4) * 10.0
        })
        .sum()
}

pub fn wood(x: &[Jet]) -> Jet {
    (x[1] - x[0] * x[0]).powi(2) * 100.0
        + (-x[0] + 1.0).powi(2)
        + (x[3] - x[2] * x[2]).powi(2) * 90.0
        + (-x[2] + 1.0).powi(2)
        + (x[1] + x[3] - 2.0).powi(2) * 10.0
        + (x[1] - x[3]).powi(2) * 0.1
}

fn kowalik_osborne(x: &[Jet]) -> Jet {
    const Y: [f64; 11] = [0.1957, 0.1947, 0.1735, 0.16, 0.0844, 0.0627, 0.0456, 0.0342, 0.0323, 0.0235, 0.0246];
    const U: [f64; 11] = [4.0, 2.0, 1.0, 0.5, 0.25, 0.167, 0.125, 0.1, 0.0833, 0.0714, 0.0625];
    squares(Y.iter().zip(U).map(|(y, u)| -(x[0] * (x[1] * u + u * u) / (x[2] * u + x[3] + u * u)) + *y))
}

fn brown_dennis(x: &[Jet]) -> Jet {
    (1..=20)
        .map(|i| {
            let t = f64::from(i) / 5.0;
            ((x[0] + x[1] * t - t.exp()).powi(2) + (x[2] + x[3] * t.sin() - t.cos()).powi(2)).powi(2)
        })
        .sum()
}

fn osborne_1(x: &[Jet]) -> Jet {
    const Y: [f64; 33] = [
        0.844, 0.908, 0.932, 0.936, 0.925, 0.908, 0.881, 0.85, 0.818, 0.784, 0.751, 0.718, 0.685, 0.658, 0.628, 0.603,
        0.58, 0.558, 0.538, 0.522, 0.506, 0.49, 0.478, 0.467, 0.457, 0.448, 0.438, 0.431, 0.424, 0.42, 0.414, 0.411,
        0.406,
    ];
    squares(Y.iter().zip(0..).map(|(y, i)| {
        let t = 10.0 * f64::from(i);
        -(x[0] + x[1] * (-(x[3] * t)).exp() + x[2] * (-(x[4] * t)).exp()) + *y
    }))
}

fn biggs_6(x: &[Jet]) -> Jet {
    squares((1..=13).map(|i| {
        let t = 0.1 * f64::from(i);
        let y = (-t).exp() - 5.0 * (-10.0 * t).exp() + 3.0 * (-4.0 * t).exp();
        x[2] * (-(x[0] * t)).exp() - x[3] * (-(x[1] * t)).exp() + x[5] * (-(x[4] * t)).exp() - y
    }))
}

fn osborne_2(x: &[Jet]) -> Jet {
    const Y: [f64; 65] = [
        1.366, 1.191, 1.112, 1.013, 0.991, 0.885, 0.831, 0.847, 0.786, 0.725, 0.746, 0.679, 0.608, 0.655, 0.616, 0.606,
        0.602, 0.626, 0.651, 0.724, 0.649, 0.649, 0.694, 0.644, 0.624, 0.661, 0.612, 0.558, 0.533, 0.495, 0.5, 0.423,
        0.395, 0.375, 0.372, 0.391, 0.396, 0.405, 0.428, 0.429, 0.523, 0.562, 0.607, 0.653, 0.672, 0.708, 0.633, 0.668,
        0.645, 0.632, 0.591, 0.559, 0.597, 0.625, 0.739, 0.71, 0.729, 0.72, 0.636, 0.581, 0.428, 0.292, 0.162, 0.098,
        0.054,
    ];
    squares(Y.iter().zip(0..).map(|(y, i)| {
        let t = f64::from(i) / 10.0;
        let fit = x[0] * (-(x[4] * t)).exp();
        let bumps = (1..4).map(|k| x[k] * (-((-x[k + 7] + t).powi(2) * x[k + 4])).exp()).sum::<Jet>();
        -(fit + bumps) + *y
    }))
}

fn watson(x: &[Jet]) -> Jet {
    let sum: Jet = squares((1..=29).map(|i| {
        let t = f64::from(i) / 29.0;
        let rise: Jet = x.iter().zip(0..).skip(1).map(|(x, k)| *x * (f64::from(k) * t.powi(k - 1))).sum();
        let value: Jet = x.iter().zip(0..).map(|(x, k)| *x * t.powi(k)).sum();
        rise - value * value - 1.0
    }));
    sum + x[0] * x[0] + (x[1] - x[0] * x[0] - 1.0).powi(2)
}

fn penalty_1(x: &[Jet]) -> Jet {
    squares(x.iter().map(|x| *x - 1.0)) * 1e-5 + (x.iter().map(|x| *x * *x).sum::<Jet>() - 0.25).powi(2)
}

fn penalty_2(x: &[Jet]) -> Jet {
    let n = x.len();
    let mut sum = (x[0] - 0.2).powi(2);
    for i in 1..n {
        let y = ((i + 1) as f64 / 10.0).exp() + (i as f64 / 10.0).exp();
        sum = sum + ((x[i] / 10.0).exp() + (x[i - 1] / 10.0).exp() - y).powi(2) * 1e-5;
        sum = sum + ((x[i] / 10.0).exp() - (-0.1f64).exp()).powi(2) * 1e-5;
    }
    sum + (x.iter().zip(0..).map(|(x, i)| *x * *x * (n as f64 - f64::from(i))).sum::<Jet>() - 1.0).powi(2)
}

fn variably_dimensioned(x: &[Jet]) -> Jet {
    let t: Jet = x.iter().zip(1..).map(|(x, i)| (*x - 1.0) * f64::from(i)).sum();
    squares(x.iter().map(|x| *x - 1.0)) + t * t + t.powi(4)
}

fn trigonometric(x: &[Jet]) -> Jet {
    let (n, cosines): (f64, Jet) = (x.len() as f64, x.iter().map(|x| x.cos()).sum());
    squares(x.iter().zip(1..).map(|(x, i)| -cosines + n + (-x.cos() + 1.0) * f64::from(i) - x.sin()))
}

fn brown_almost_linear(x: &[Jet]) -> Jet {
    let (n, sum): (usize, Jet) = (x.len(), x.iter().copied().sum());
    let product = x.iter().fold(j(1.0), |p, x| p * *x);
    squares(x[..n - 1].iter().map(|x| *x + sum - (n as f64 + 1.0))) + (product - 1.0).powi(2)
}

fn neighbours(x: &[Jet], i: usize) -> (Jet, Jet) {
    let at = |k: Option<usize>| k.and_then(|k| x.get(k)).copied().unwrap_or(j(0.0));
    (at(i.checked_sub(1)), at(Some(i + 1)))
}

fn boundary_value(x: &[Jet]) -> Jet {
    let h = 1.0 / (x.len() as f64 + 1.0);
    squares((0..x.len()).map(|i| {
        let (before, after) = neighbours(x, i);
        x[i] * 2.0 - before - after + (x[i] + (h * (i as f64 + 1.0) + 1.0)).powi(3) * (h * h / 2.0)
    }))
}

fn broyden_tridiagonal(x: &[Jet]) -> Jet {
    squares((0..x.len()).map(|i| {
        let (before, after) = neighbours(x, i);
        (-(x[i] * 2.0) + 3.0) * x[i] - before - after * 2.0 + 1.0
    }))
}

fn broyden_banded(x: &[Jet]) -> Jet {
    squares((0..x.len()).map(|i| {
        let band = i.saturating_sub(5)..(i + 2).min(x.len());
        let beside: Jet = band.filter(|k| *k != i).map(|k| x[k] * (x[k] + 1.0)).sum();
        x[i] * (x[i] * x[i] * 5.0 + 2.0) + 1.0 - beside
    }))
}

fn linear_full_rank(x: &[Jet]) -> Jet {
    let (m, sum): (usize, Jet) = (2 * x.len(), x.iter().copied().sum());
    squares((0..m).map(|i| x.get(i).copied().unwrap_or(j(0.0)) - sum * (2.0 / m as f64) - 1.0))
}

fn chebyquad(x: &[Jet]) -> Jet {
    let n = x.len();
    squares((1..=n).map(|i| {
        let mean = x.iter().map(|x| {
            let t = *x * 2.0 - 1.0;
            let (mut last, mut now) = (j(1.0), t);
            for _ in 1..i {
                (last, now) = (now, t * now * 2.0 - last);
            }
            now
        });
        let integral = if i % 2 == 0 { -1.0 / (i as f64 * i as f64 - 1.0) } else { 0.0 };
        mean.sum::<Jet>() / n as f64 - integral
    }))
}

fn repeat(part: &[f64], times: usize) -> Vec<f64> {
    part.repeat(times)
}

fn steps(n: usize, of: impl Fn(f64) -> f64) -> Vec<f64> {
    (1..=n).map(|i| of(i as f64)).collect()
}

pub fn cases() -> Vec<Case> {
    let case = |name, f: fn(&[Jet]) -> Jet, start: Vec<f64>, optima: &[f64]| Case::new(name, f, start, optima);
    vec![
        case("rosenbrock", rosenbrock, vec![-1.2, 1.0], &[0.0]),
        case("freudenstein roth", freudenstein_roth, vec![0.5, -2.0], &[0.0, 48.98425367924]),
        case("powell badly scaled", powell_badly_scaled, vec![0.0, 1.0], &[0.0]),
        case("brown badly scaled", brown_badly_scaled, vec![1.0, 1.0], &[0.0]),
        case("beale", beale, vec![1.0, 1.0], &[0.0]),
        case("jennrich sampson", jennrich_sampson, vec![0.3, 0.4], &[124.36218235561]),
        case("helical valley", helical_valley, vec![-1.0, 0.0, 0.0], &[0.0]),
        case("bard", bard, vec![1.0; 3], &[8.214877306578e-3]),
        case("gaussian", gaussian, vec![0.4, 1.0, 0.0], &[1.1279327696e-8]),
        case("meyer", meyer, vec![0.02, 4000.0, 250.0], &[87.945855171]),
        case("gulf", gulf, vec![5.0, 2.5, 0.15], &[0.0]),
        case("box 3-d", box_three, vec![0.0, 10.0, 20.0], &[0.0]),
        case("powell singular", powell_singular, vec![3.0, -1.0, 0.0, 1.0], &[0.0]),
        case("wood", wood, vec![-3.0, -1.0, -3.0, -1.0], &[0.0]),
        case("kowalik osborne", kowalik_osborne, vec![0.25, 0.39, 0.415, 0.39], &[3.075056038e-4]),
        case("brown dennis", brown_dennis, vec![25.0, 5.0, -5.0, -1.0], &[85822.201626356]),
        case("osborne 1", osborne_1, vec![0.5, 1.5, -1.0, 0.01, 0.02], &[5.464894697e-5]),
        case("biggs exp6", biggs_6, vec![1.0, 2.0, 1.0, 1.0, 1.0, 1.0], &[0.0, 5.6556499255e-3]),
        case("osborne 2", osborne_2, vec![1.3, 0.65, 0.65, 0.7, 0.6, 3.0, 5.0, 7.0, 2.0, 4.5, 5.5], &[4.013773629e-2]),
        case("watson 6", watson, vec![0.0; 6], &[2.287670053552e-3]),
        case("watson 9", watson, vec![0.0; 9], &[1.399760138e-6]),
        case("extended rosenbrock", rosenbrock, repeat(&[-1.2, 1.0], 5), &[0.0]),
        case("extended powell", powell_singular, repeat(&[3.0, -1.0, 0.0, 1.0], 3), &[0.0]),
        case("penalty 1", penalty_1, steps(4, |i| i), &[2.2499775e-5]),
        case("penalty 1 of 10", penalty_1, steps(10, |i| i), &[7.0876515e-5]),
        case("penalty 2", penalty_2, vec![0.5; 4], &[9.3762939e-6]),
        case("penalty 2 of 10", penalty_2, vec![0.5; 10], &[2.9366054e-4]),
        case("variably dimensioned", variably_dimensioned, steps(10, |i| 1.0 - i / 10.0), &[0.0]),
        case("trigonometric", trigonometric, vec![0.1; 10], &[0.0, 2.795056122e-5]),
        case("brown almost linear", brown_almost_linear, vec![0.5; 10], &[0.0, 1.0]),
        case("boundary value", boundary_value, steps(10, |i| i / 11.0 * (i / 11.0 - 1.0)), &[0.0]),
        case("broyden tridiagonal", broyden_tridiagonal, vec![-1.0; 10], &[0.0]),
        case("broyden banded", broyden_banded, vec![-1.0; 10], &[0.0, 3.0572784324258]),
        case("linear full rank", linear_full_rank, vec![1.0; 10], &[10.0]),
        case("chebyquad 8", chebyquad, steps(8, |i| i / 9.0), &[3.51687372568e-3]),
        case("chebyquad 9", chebyquad, steps(9, |i| i / 10.0), &[0.0]),
    ]
}
