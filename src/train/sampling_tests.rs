use super::*;
use crate::backend::{Backend, ContextOptions};
use crate::tensor::random::Purpose;
use crate::tensor::{ErrorKind, never};

fn context() -> Arc<Context> {
    Arc::new(Context::new(&ContextOptions { backend: Some(Backend::Simd), ..ContextOptions::default() }).unwrap())
}

/// Three kinds of text, in pieces of 40 tokens: half of it of the first kind, a tenth of the last.
fn kind_of(position: usize) -> u32 {
    match position / 40 % 10 {
        0..5 => 0,
        5..9 => 1,
        _ => 2,
    }
}

fn dataset(tokens: usize) -> Dataset {
    let stream = Stream::new(1, Purpose::Test, 0, 0);
    // Each kind has tokens of its own in an order of its own, but for every fortieth.
    let token = |i: usize| match stream.below(i as u64, 400) {
        other @ 0..10 => 10 * kind_of(i) + other as u32,
        _ => 10 * kind_of(i) + (i % 5) as u32,
    };
    Dataset::from_tokens((0..tokens).map(token).collect(), 30, 0.0).unwrap()
}

fn options(n_clusters: usize, cluster_balance: f64) -> TrainOptions {
    TrainOptions { n_clusters, cluster_balance, batch_size: 12, ..TrainOptions::default() }.resolve(20, 4001).unwrap()
}

fn clusters(dataset: &Dataset, options: &TrainOptions) -> Clusters {
    let error = Sampling::new(&context(), dataset, options, &|| true).err();
    assert!(error.is_none_or(|error| error.kind == ErrorKind::Cancelled));
    match Sampling::new(&context(), dataset, options, &never).unwrap() {
        Sampling::Clustered(clusters) => clusters,
        Sampling::Plain => panic!("there are clusters"),
    }
}

#[test]
fn clusters_are_the_kinds_of_text() {
    let dataset = dataset(4001);
    let found = clusters(&dataset, &options(3, 0.0));
    let mut sizes = found.sizes();
    sizes.sort_unstable();
    assert_eq!(sizes, [20, 80, 100]);
    let mut kinds = [None; 3];
    for i in 0..3981 {
        let (cluster, start) = found.draw((i as f64 + 0.5) / 3981.0);
        let kind = kind_of(start / 20 * 20 + if start % 20 < 10 { 0 } else { 20 });
        assert_eq!(*kinds[cluster].get_or_insert(kind), kind, "start {start}");
    }
    assert!(kinds.contains(&Some(0)) && kinds.contains(&Some(1)) && kinds.contains(&Some(2)));
}

/// With a balance of 0, equal steps along the line meet every start once: it is a permutation of all starts.
#[test]
fn every_start_is_as_likely_as_without_clusters() {
    for (tokens, k) in [(4001, 3), (4001, 10), (4013, 5), (4020, 7), (4019, 2)] {
        let found = clusters(&dataset(tokens), &options(k, 0.0));
        let starts = tokens - 20;
        let mut seen = vec![0; starts];
        for i in 0..starts {
            seen[found.draw((i as f64 + 0.5) / starts as f64).1] += 1;
        }
        assert!(seen.iter().all(|&count| count == 1), "{tokens} tokens, {k} clusters");
    }
}

#[test]
fn balance_decides_how_often_a_cluster_comes() {
    let dataset = dataset(4001);
    for (balance, shares) in [(0.0, [0.1, 0.4, 0.5]), (0.5, [0.1857, 0.3779, 0.4364]), (1.0, [1.0 / 3.0; 3])] {
        let sampling = Sampling::new(&context(), &dataset, &options(3, balance), &never).unwrap();
        let mut counts = vec![0u32; 3];
        let (mut rows, mut tokens, mut targets) = (vec![0; 12], vec![0; 240], vec![0; 240]);
        let mut by_kind = [0u32; 3];
        for step in 0..500 {
            let stream = Stream::new(9, Purpose::Batch, step, 0);
            sampling.batch(&dataset, stream, 20, &mut rows, &mut tokens, &mut targets).unwrap();
            let mut batch = vec![0u32; 3];
            rows.iter().for_each(|&row| batch[row as usize] += 1);
            // Strata: a batch has the share of each cluster, but for what falls on its two borders.
            for (all, &count) in counts.iter_mut().zip(&batch) {
                *all += count;
            }
            let mut sorted = batch.clone();
            sorted.sort_unstable();
            for (count, share) in sorted.iter().zip(shares) {
                assert!((f64::from(*count) - 12.0 * share).abs() < 2.0, "balance {balance}: {batch:?}");
            }
            for (window, next) in tokens.chunks(20).zip(targets.chunks(20)) {
                assert_eq!(window[1..], next[..19]);
                by_kind[window[10] as usize / 10] += 1;
            }
        }
        counts.sort_unstable();
        by_kind.sort_unstable();
        for found in [counts, by_kind.to_vec()] {
            for (count, share) in found.iter().zip(shares) {
                let found = f64::from(*count) / 6000.0;
                assert!((found - share).abs() < 0.02, "balance {balance}: {found}, expected {share}");
            }
        }
    }
}

#[test]
fn draws_are_a_function_of_seed_step_and_micro_batch() {
    let dataset = dataset(4001);
    let batch = |seed, step, micro| {
        let sampling = Sampling::new(&context(), &dataset, &options(3, 0.3), &never).unwrap();
        let (mut rows, mut tokens, mut targets) = (vec![0; 12], vec![0; 240], vec![0; 240]);
        let stream = Stream::new(seed, Purpose::Batch, step, micro);
        sampling.batch(&dataset, stream, 20, &mut rows, &mut tokens, &mut targets).unwrap();
        tokens
    };
    let first = batch(1, 2, 3);
    assert_eq!(batch(1, 2, 3), first);
    for other in [batch(2, 2, 3), batch(1, 3, 3), batch(1, 2, 4)] {
        assert_ne!(other, first);
    }
}

#[test]
fn none_one_and_too_many_clusters_are_plain_sampling() {
    let dataset = dataset(4001);
    let stream = Stream::new(1, Purpose::Batch, 2, 3);
    let draw = |n_clusters| {
        let sampling = Sampling::new(&context(), &dataset, &options(n_clusters, 0.0), &never).unwrap();
        let (mut rows, mut tokens, mut targets) = (vec![7; 12], vec![0; 240], vec![0; 240]);
        sampling.batch(&dataset, stream, 20, &mut rows, &mut tokens, &mut targets).unwrap();
        (sampling.clusters().map(Clusters::count), rows[0], tokens, targets)
    };
    let (mut tokens, mut targets) = (vec![0; 240], vec![0; 240]);
    dataset.batch(Split::Train, stream, 12, 20, &mut tokens, &mut targets).unwrap();
    // 200 windows are enough for 25 clusters of 8.
    for n_clusters in [0, 1, 26, usize::MAX] {
        assert_eq!(draw(n_clusters), (None, 7, tokens.clone(), targets.clone()), "{n_clusters}");
    }
    assert!(draw(25).0.is_some());
    assert_ne!(draw(2).2, tokens);
}

#[test]
fn windows_that_are_all_alike_are_drawn_evenly() {
    let alike = Dataset::from_tokens(vec![3; 4001], 30, 0.0).unwrap();
    assert!(Sampling::new(&context(), &alike, &options(3, 0.0), &never).unwrap().clusters().is_none());
    // Two kinds for five clusters: the three without a window are gone.
    let two = Dataset::from_tokens((0..4001).map(|i| i / 400 % 2).collect(), 30, 0.0).unwrap();
    let found = clusters(&two, &options(5, 1.0));
    assert!((2..=4).contains(&found.count()) && found.sizes().iter().all(|&size| size > 0), "{:?}", found.sizes());
}

/// More windows than k-means is shown: the rest are assigned.
#[test]
fn a_long_text_is_clustered_by_a_part_of_it() {
    let dataset = dataset(20 * (MOST_FITTED + 5000) + 1);
    let found = clusters(&dataset, &options(3, 0.0));
    let sizes = found.sizes();
    assert_eq!(sizes.iter().sum::<usize>(), MOST_FITTED + 5000);
    let mut shares: Vec<f64> = sizes.iter().map(|&size| size as f64 / (MOST_FITTED + 5000) as f64).collect();
    shares.sort_unstable_by(f64::total_cmp);
    assert!((shares[0] - 0.1).abs() < 0.01 && (shares[1] - 0.4).abs() < 0.01, "{shares:?}");
}

#[test]
fn fingerprints_tell_clusters_apart() {
    let dataset = dataset(4001);
    let of = |seed, k| clusters(&dataset, &TrainOptions { seed, ..options(k, 0.0) }).fingerprint();
    assert_eq!(of(1, 7), of(1, 7));
    assert_ne!(of(1, 7), of(1, 6));
}
