//! The network as an optimizer uses it: what a zero head and bad numbers give, the bounds, learning, and its files.

use super::*;
use crate::format::scratch::{Scratch, names};
use crate::step::Kind;
use crate::tensor::random::{Purpose, Stream};
use crate::tensor::{ErrorKind, Result};

const PLAIN: Observation =
    Observation { kind: Kind::Ternary, relative_step: 3e-3, flip_rate: 2e-3, cosine: 0.2, signal: 0.1, progress: 0.25 };

/// Gives one number of an observation a value.
type Set = fn(&mut Observation, f64);

impl LrNet {
    /// The library's, with the weights that `change` makes of its own.
    pub fn changed(online_rate: f64, change: impl FnOnce(&mut [f64])) -> LrNet {
        let mut net = net(LrNetOptions { online_rate, ..LrNetOptions::default() });
        let mut weights = net.weights().to_vec();
        change(&mut weights);
        net.set_weights(&weights).unwrap();
        net
    }
}

fn net(options: LrNetOptions) -> LrNet {
    LrNet::new(options).unwrap()
}

/// A network with a head, so that its factors move.
fn loud(options: LrNetOptions) -> LrNet {
    let stream = Stream::new(5, Purpose::Test, 0, 0);
    let weights: Vec<f64> = (0..WEIGHTS as u64).map(|i| 1.5 * f64::from(stream.normal(i))).collect();
    let mut net = net(options);
    net.set_weights(&weights).unwrap();
    net
}

/// One of many observations, of every size that a number can have.
fn observation(i: u64) -> Observation {
    let stream = Stream::new(6, Purpose::Test, 0, 0);
    let uniform = |which: u64| stream.uniform_f64(8 * i + which);
    Observation {
        kind: [Kind::Ternary, Kind::Matrix, Kind::Vector][(i % 3) as usize],
        relative_step: 10f64.powf(-12.0 * uniform(0)),
        flip_rate: 10f64.powf(-6.0 * uniform(1)),
        cosine: 2.0 * uniform(2) - 1.0,
        signal: 10f64.powf(-3.0 * uniform(3)),
        progress: uniform(4),
    }
}

fn loss(i: u64) -> f64 {
    3.0 - 0.01 * i as f64 + 0.1 * f64::from(Stream::new(7, Purpose::Test, 0, 0).normal(i))
}

/// Steps `from` to `to` of three parameters; the factors' bits.
fn run(net: &mut LrNet, from: u64, to: u64) -> Vec<u64> {
    let mut factors = Vec::new();
    for t in from..to {
        net.observe_loss(loss(t));
        for index in 0..3 {
            net.learn(index, (t as f64 + index as f64).sin());
            factors.push(net.factor(index, &observation(3 * t + index as u64)).unwrap().to_bits());
        }
    }
    factors
}

#[test]
fn a_zero_head_gives_exactly_one() {
    let mut net = net(LrNetOptions::default());
    for i in 0..300 {
        net.observe_loss(loss(i));
        assert_eq!(net.factor((i % 7) as usize, &observation(i)).unwrap(), 1.0);
    }
    let mut loud = loud(LrNetOptions { largest_factor: 1.0, online_rate: 0.1 });
    assert!(run(&mut loud, 0, 50).iter().all(|&bits| bits == 1f64.to_bits()), "a largest factor of 1 leaves nothing");
}

#[test]
fn a_number_that_is_none_gives_exactly_one_and_leaves_no_trace() {
    let mut net = loud(LrNetOptions::default());
    run(&mut net, 0, 9);
    let before = net.clone();
    let negative: [Set; 3] = [|o, x| o.relative_step = x, |o, x| o.flip_rate = x, |o, x| o.signal = x];
    let signed: [Set; 2] = [|o, x| o.cosine = x, |o, x| o.progress = x];
    let bad = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY];
    for (set, values) in
        negative.iter().map(|set| (set, [bad[0], bad[1], -1e-9])).chain(signed.iter().map(|set| (set, bad)))
    {
        for value in values {
            let mut observation = PLAIN;
            set(&mut observation, value);
            assert_eq!(net.factor(1, &observation).unwrap(), 1.0, "{observation:?}");
            assert_eq!(net.features(&observation), None);
            assert_eq!(net, before);
        }
    }
    for value in bad {
        net.observe_loss(value);
        assert_eq!(net.factor(1, &PLAIN).unwrap(), 1.0);
        assert_eq!(net.states, before.states);
    }
    net.observe_loss(2.0);
    assert_ne!(net.factor(1, &PLAIN).unwrap(), 1.0);
}

#[test]
fn factors_are_bounded_and_slow() {
    for largest_factor in [1.01, 1.7, 2.0, 3.3, 4.0] {
        let mut net = loud(LrNetOptions { largest_factor, online_rate: 1.0 });
        let (mut last, mut most, mut least) = (1.0f64, 1.0f64, 1.0f64);
        for i in 0..2000 {
            net.observe_loss(loss(i));
            let factor = net.factor(0, &observation(i)).unwrap();
            assert!((1.0 / largest_factor..=largest_factor).contains(&factor), "{factor}");
            assert!((factor / last).ln().abs() <= LONGEST_MOVE + 1e-12, "{last} to {factor}");
            net.learn(0, if i % 400 < 200 { 1.0 } else { -1.0 });
            (last, most, least) = (factor, most.max(factor), least.min(factor));
        }
        assert!(most > largest_factor.powf(0.9) && least < largest_factor.powf(-0.9), "{least} to {most}");
    }
}

#[test]
fn features_are_bounded_and_grow_with_their_numbers() {
    let net = net(LrNetOptions::default());
    let set: [(usize, Set); 5] = [
        (0, |o, x| o.relative_step = x),
        (1, |o, x| o.flip_rate = x),
        (2, |o, x| o.cosine = 2.0 * x - 1.0),
        (3, |o, x| o.signal = x),
        (6, |o, x| o.progress = x),
    ];
    for (at, set) in set {
        let mut last = -1.0;
        for x in [0.0, 1e-300, 1e-8, 1e-5, 1e-3, 1e-2, 0.1, 0.5, 1.0, 1e9, 1e300] {
            let mut observation = PLAIN;
            set(&mut observation, x);
            let found = net.features(&observation).unwrap();
            assert!(found[at] >= last && found.iter().all(|f| (-1.0..=1.0).contains(f)), "{x}: {found:?}");
            last = found[at];
        }
        assert_eq!(last, 1.0);
    }
    let at = |relative_step| net.features(&Observation { relative_step, ..PLAIN }).unwrap()[0];
    assert!(at(1e-3).abs() < 1e-12 && (at(1e-2) - 1.0 / 3.0).abs() < 1e-12);
    let kinds = [Kind::Ternary, Kind::Matrix, Kind::Vector].map(|kind| {
        let found = net.features(&Observation { kind, ..PLAIN }).unwrap();
        [found[7], found[8]]
    });
    assert_eq!(kinds, [[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]]);
}

#[test]
fn the_same_steps_give_the_same_bits() {
    let options = LrNetOptions { online_rate: 0.05, ..LrNetOptions::default() };
    let [mut first, mut second] = [loud(options), loud(options)];
    assert_eq!(run(&mut first, 0, 60), run(&mut second, 0, 60));
    assert_eq!(first, second);
    second.reset();
    assert_eq!((second.states.len(), second.trend), (0, Trend::default()));
    assert_eq!(second.weights(), first.weights());
}

#[test]
fn learning_moves_the_factor_where_the_gradient_points() {
    for (sign, good) in [(1.0, true), (-1.0, true), (0.0, false), (f64::NAN, false), (f64::INFINITY, false)] {
        let mut net = net(LrNetOptions { online_rate: 0.01, ..LrNetOptions::default() });
        net.learn(0, sign); // before the first factor: nothing
        let (mut last, hidden) = (net.factor(0, &PLAIN).unwrap(), net.weights()[..108].to_vec());
        assert_eq!(last, 1.0);
        for _ in 0..200 {
            net.learn(0, sign);
            let factor = net.factor(0, &PLAIN).unwrap();
            assert!(if good { (factor - last) * sign >= 0.0 } else { factor == 1.0 }, "{last} to {factor}");
            last = factor;
        }
        let far = if good { last.ln() * sign } else { 1.0 };
        assert!(far > 0.9 * 4f64.ln() || !good, "{last}");
        assert_eq!(net.weights()[..108], hidden[..], "only the head learns");
        // And back, in as many steps.
        (0..200).for_each(|_| net.learn(0, -sign));
        assert!(!good || net.network.output(&net.features(&PLAIN).unwrap()) * sign < -1.9);
    }
    let mut still = net(LrNetOptions::default());
    still.factor(0, &PLAIN).unwrap();
    still.learn(0, 1.0);
    assert_eq!(still.weights(), &weights::DEFAULT, "a rate of 0 learns nothing");
}

#[test]
fn a_proposal_changes_nothing_until_it_is_accepted() {
    let mut net = loud(LrNetOptions::default());
    run(&mut net, 0, 5);
    let before = net.clone();
    let proposal = net.propose(7, &PLAIN);
    assert_eq!(net, before);
    net.accept(7, &proposal).unwrap();
    let mut other = before;
    assert_eq!(other.factor(7, &PLAIN).unwrap(), proposal.factor);
    assert_eq!(net, other);
}

#[test]
fn wrong_options_weights_and_indices_are_refused() {
    let kind = |result: Result<()>| result.unwrap_err().kind;
    for (largest_factor, online_rate) in
        [(0.9, 0.0), (4.1, 0.0), (f64::NAN, 0.0), (2.0, -0.1), (2.0, 1.5), (2.0, f64::NAN)]
    {
        assert_eq!(kind(LrNet::new(LrNetOptions { largest_factor, online_rate }).map(|_| ())), ErrorKind::Argument);
    }
    let mut net = loud(LrNetOptions::default());
    let before = net.clone();
    for bad in [f64::NAN, f64::INFINITY, 16.1, -17.0] {
        let mut weights = *net.weights();
        weights[132] = bad;
        assert_eq!(kind(net.set_weights(&weights)), ErrorKind::Argument);
    }
    assert_eq!(kind(net.set_weights(&[0.0; 132])), ErrorKind::Argument);
    assert_eq!(kind(net.factor(MOST_PARAMETERS, &PLAIN).map(|_| ())), ErrorKind::Argument);
    assert_eq!(kind(net.factor(usize::MAX, &PLAIN).map(|_| ())), ErrorKind::Argument);
    net.learn(usize::MAX, 1.0);
    assert_eq!(net, before);
    net.factor(MOST_PARAMETERS - 1, &PLAIN).unwrap();
}

#[test]
fn a_continued_run_is_the_one_that_never_stopped() {
    let scratch = Scratch::new();
    let path = scratch.path().join("net");
    let options = LrNetOptions { largest_factor: 3.0, online_rate: 0.05 };
    let mut first = loud(options);
    run(&mut first, 0, 40);
    first.observe_loss(f64::NAN);
    first.save(&path).unwrap();
    let mut second = net(LrNetOptions { largest_factor: 2.0, ..options });
    second.factor(9, &PLAIN).unwrap();
    second.load(&path).unwrap();
    assert_eq!(first, second);
    assert_eq!(run(&mut first, 40, 80), run(&mut second, 40, 80));
    assert_eq!(first, second);
    first.save(&path).unwrap();
    let one = std::fs::read(&path).unwrap();
    second.save(&path).unwrap();
    assert!(std::fs::read(&path).unwrap() == one, "the same state is the same file");
    net(options).save(&path).unwrap();
    second.load(&path).unwrap();
    assert_eq!(second, net(options), "a network without states is one too");
    assert_eq!(names(scratch.path()), ["net"]);
}

#[test]
fn damaged_files_are_refused() {
    let scratch = Scratch::new();
    let path = scratch.path().join("net");
    let mut net = loud(LrNetOptions::default());
    run(&mut net, 0, 5);
    net.save(&path).unwrap();
    let (good, before) = (std::fs::read(&path).unwrap(), net.clone());
    let mut refused = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        let error = net.load(&path).expect_err("the file is refused");
        assert_eq!((error.kind, &net), (ErrorKind::Format, &before), "{error}");
        error.message
    };
    for end in [0, 7, 8, 100, good.len() - 1] {
        refused(&good[..end]);
    }
    // Every byte of the data, and every byte of the header that is not of the padding or the order of its fields.
    let data = 8 + u64::from_le_bytes(good[..8].try_into().unwrap()) as usize;
    for at in (data..good.len()).step_by(13) {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        assert!(refused(&bytes).contains("damaged"), "byte {at}");
    }
    let replaced = |from: &str, to: &str| {
        let header = String::from_utf8(good[..data].to_vec()).unwrap();
        assert!(header.contains(from), "{header:?}");
        // Of the same length: the header is padded with blanks.
        let header = header.replacen(from, to, 1);
        [&header.as_bytes()[..data], &good[data..]].concat()
    };
    for (from, to, says) in [
        ("setun-lr-net", "setun-lr-nut", "its format is"),
        ("\"version\":\"1\"", "\"version\":\"2\"", "its version is"),
        ("\"weights\"", "\"weighty\"", "weights is missing"),
        ("[133]", "[7,19]", "weights has the shape [7, 19]"),
        ("\"F64\",\"shape\":[1]", "\"F32\",\"shape\":[2]", "largest_factor is f32, expected f64"),
    ] {
        let message = refused(&replaced(from, to));
        assert!(message.contains(says), "{to}: {message}");
    }
}

#[test]
fn parts_that_no_steps_leave_are_refused() {
    let mut net = loud(LrNetOptions::default());
    run(&mut net, 0, 5);
    let before = net.clone();
    let parts = net.parts().unwrap();
    let mut check = |name: &str, change: &dyn Fn(&mut Vec<usize>, &mut Vec<f64>)| {
        let error = net.restore(&|wanted| {
            let (_, mut part) = parts.iter().find(|part| part.0 == wanted).unwrap().clone();
            if wanted == name {
                change(&mut part.dims, &mut part.values);
            }
            Ok(part)
        });
        let error = error.expect_err(name);
        assert_eq!((error.kind, &net), (ErrorKind::Format, &before), "{error}");
        assert!(error.message.contains(name), "{error}");
    };
    for bad in [0.5, 5.0, f64::NAN] {
        check("largest_factor", &|_, values| values[0] = bad);
    }
    check("weights", &|_, values| values[3] = f64::INFINITY);
    check("weights", &|dims, _| *dims = vec![7, 19]);
    check("trend", &|_, values| values[4] = -1.0);
    for (at, bad) in [(0, 1.4), (0, f64::NAN), (1, 0.5), (1, 0.0), (2, 1.1), (10, f64::INFINITY)] {
        check("states", &|_, values| values[11 + at] = bad);
    }
    check("states", &|dims, _| *dims = vec![33]);
    check("states", &|dims, _| dims[0] = MOST_PARAMETERS + 1);
}
