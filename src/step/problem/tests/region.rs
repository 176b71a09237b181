//! The nearest points of polyhedra and balls.

use super::super::Ball;
use super::super::linear::{add, dot, norm};
use super::super::polyhedron::Polyhedron;
use super::super::region::Region;
use super::subproblem::uniform;

fn region<'a>(set: &'a Polyhedron, ball: Option<&'a Ball>) -> Region<'a> {
    Region { set, lower: &set.lower, upper: &set.upper, ball }
}

/// y is nearest to z if and only if (z - y)'(w - y) <= 0 for all w of the set: here, for many.
#[test]
fn nearest_points_of_random_sets() {
    let mut seed = 3;
    for turn in 0..200 {
        let n = 1 + turn % 6;
        let mut draw = |count: usize, scale: f64| (0..count).map(|_| scale * uniform(&mut seed)).collect::<Vec<f64>>();
        let mut set = Polyhedron::new(n).unwrap();
        let inner = draw(n, 1.0);
        for (i, x) in inner.iter().enumerate() {
            let room = draw(2, 1.0);
            set.lower[i] = x - room[0].abs();
            set.upper[i] = if turn % 3 == 0 { f64::INFINITY } else { x + room[1].abs() };
        }
        for k in 0..turn % 7 {
            let (row, room) = (draw(n, 1.0), draw(2, 0.5));
            let value = dot(&row, &inner);
            let equal = k == 1 && n > 2;
            let (low, high) = if equal { (value, value) } else { (value - room[0].abs(), value + room[1].abs()) };
            set.add_row(&row, low, high, (equal, k)).unwrap();
        }
        let ball = Ball { centre: draw(n, 0.2).iter().zip(&inner).map(|(a, b)| a + b).collect(), radius: 0.7 };
        let region = region(&set, (turn % 2 == 0).then_some(&ball));
        let z = draw(n, 4.0);
        let y = region.nearest(&z).unwrap();
        assert!(region.violation(&y).unwrap() <= 1e-10, "turn {turn}: {:e}", region.violation(&y).unwrap());
        let away: Vec<f64> = z.iter().zip(&y).map(|(z, y)| z - y).collect();
        for _ in 0..20 {
            let w = region.nearest(&draw(n, 2.0)).unwrap();
            let inner: f64 = (0..n).map(|i| away[i] * (w[i] - y[i])).sum();
            assert!(inner <= 1e-8, "turn {turn}: {inner:e}");
        }
    }
}

#[test]
fn a_degenerate_vertex_is_found_and_left() {
    // A pyramid of eight sides over the origin: all of them meet at its tip.
    let mut set = Polyhedron::new(3).unwrap();
    for k in 0..8 {
        let (s, c) = (f64::from(k) * std::f64::consts::FRAC_PI_4).sin_cos();
        set.add_row(&[c, s, 1.0], f64::NEG_INFINITY, 1.0, (false, k as usize)).unwrap();
    }
    let region = region(&set, None);
    let tip = region.nearest(&[0.01, -0.02, 5.0]).unwrap();
    assert!(norm(&[tip[0], tip[1], tip[2] - 1.0]) < 1e-12, "{tip:?}");
    let down = region.descent(&tip, &[0.0, 0.0, 1.0], 0.5).unwrap();
    assert!((down[2] + 0.5).abs() < 1e-12, "{down:?}");
}

#[test]
fn empty_sets_say_so() {
    let mut set = Polyhedron::new(2).unwrap();
    set.lower.fill(0.0);
    set.add_row(&[1.0, 1.0], f64::NEG_INFINITY, -1.0, (false, 0)).unwrap();
    let message = region(&set, None).nearest(&[1.0, 1.0]).unwrap_err().message;
    assert!(message.starts_with("the constraints have no common point"), "{message}");
    let far = Ball { centre: vec![-3.0, 0.0], radius: 1.0 };
    let mut set = Polyhedron::new(2).unwrap();
    set.lower.fill(0.0);
    let message = region(&set, Some(&far)).nearest(&[1.0, 1.0]).unwrap_err().message;
    assert!(message.contains("the ball of radius 1 does not meet"), "{message}");
    let mut set = Polyhedron::new(2).unwrap();
    set.add_row(&[1.0, 1.0], 2.0, 2.0, (true, 0)).unwrap();
    set.add_row(&[2.0, 2.0], 4.0, 4.0, (true, 1)).unwrap();
    let message = set.add_row(&[3.0, 3.0], 7.0, 7.0, (true, 2)).unwrap_err().message;
    assert_eq!(message, "equality 2 says 7, the others before it imply 6");
    assert_eq!(set.row_count(), 1);
}

#[test]
fn a_ball_and_a_corner() {
    let mut set = Polyhedron::new(2).unwrap();
    set.lower.copy_from_slice(&[0.5, f64::NEG_INFINITY]);
    let ball = Ball { centre: vec![0.0; 2], radius: 1.0 };
    let mut y = region(&set, Some(&ball)).nearest(&[-4.0, 5.0]).unwrap();
    add(-1.0, &[0.5, 0.75f64.sqrt()], &mut y);
    assert!(norm(&y) < 1e-10, "{y:?}");
}
