use super::*;
use crate::backend::Backend;
use crate::cluster::tests::{context, context_of};
use crate::cluster::{Documents, Hooks, KMeans, KMeansOptions, Points, WordOptions, windows};
use crate::tensor::{ErrorKind, never};

const WORDS: WordOptions = WordOptions { seed: 7, lowercase: true, pairs: true };

fn options(dimensions: usize) -> TfidfOptions {
    TfidfOptions { dimensions, signed: true, sublinear: true }
}

/// Begins and ends of the documents of a text that has one in each line.
fn lines(text: &str) -> (Vec<i64>, Vec<i64>) {
    let mut begins = vec![0];
    begins.extend(text.match_indices('\n').map(|(at, _)| at as i64 + 1));
    let ends = begins[1..].iter().map(|end| end - 1).chain([text.len() as i64]).collect();
    (begins, ends)
}

fn dot(x: &[f32], y: &[f32]) -> f64 {
    x.iter().zip(y).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum()
}

fn transform(tfidf: &Tfidf, terms: &dyn Terms) -> Vec<f32> {
    let mut x = vec![f32::NAN; terms.count() * tfidf.dimensions()];
    tfidf.transform(&context(), terms, &mut x, &never).unwrap();
    x
}

/// Products of rows are those of the definition, term by term: counts of words and pairs, 1 + ln c, ln((1 + N) / (1 + df)) + 1.
#[test]
fn vectors_are_the_definition() {
    let text = "the cat the dog\nThe cat sat.\n\n a dog, a cat, a dog";
    let (begins, ends) = lines(text);
    let documents = Documents::new(text.as_bytes(), &begins, &ends, WORDS).unwrap();
    let mut tfidf = Tfidf::new(options(1 << 16)).unwrap();
    tfidf.fit(&context(), &documents, false, &never).unwrap();
    let x = transform(&tfidf, &documents);
    let row = |i: usize| &x[i << 16..][..1 << 16];
    let (once, twice) = (1.0, 1.0 + 2f64.ln());
    let idf = |having: f64| (5.0 / (1.0 + having)).ln() + 1.0;
    // Terms of documents 0, 1, 3 with their counts' weights; N = 4.
    let first = [(twice, 2.0), (once, 3.0), (once, 2.0), (once, 2.0), (once, 1.0), (once, 1.0)];
    // the, cat, dog, the cat, cat the, the dog
    let second = [(once, 2.0), (once, 3.0), (once, 1.0), (once, 2.0), (once, 1.0)];
    // the, cat, sat, the cat, cat sat
    let last = [(1.0 + 3f64.ln(), 1.0), (twice, 2.0), (once, 3.0), (twice, 1.0), (once, 1.0), (once, 1.0), (once, 1.0)];
    // a, dog, cat, a dog, dog a, a cat, cat a
    let length = |terms: &[(f64, f64)]| terms.iter().map(|(c, df)| (c * idf(*df)).powi(2)).sum::<f64>().sqrt();
    let (a, b, c) = (length(&first), length(&second), length(&last));
    let shared = twice * idf(2.0).powi(2) + idf(3.0).powi(2) + idf(2.0).powi(2); // the, cat, the cat
    assert!((dot(row(0), row(1)) - shared / (a * b)).abs() < 1e-6);
    let shared = idf(3.0).powi(2) + twice * idf(2.0).powi(2); // cat, dog
    assert!((dot(row(0), row(3)) - shared / (a * c)).abs() < 1e-6);
    for i in [0, 1, 3] {
        assert!((dot(row(i), row(i)) - 1.0).abs() < 1e-6);
    }
    assert!(row(2).iter().all(|&x| x.to_bits() == 0), "a document without a word is zeros");
}

/// Documents of words that are drawn from `topics` vocabularies, one after the other.
fn made(documents: usize, topics: u64) -> (String, Vec<i64>, Vec<i64>) {
    let mut text = String::new();
    for document in 0..documents as u64 {
        for word in 0..30 + document % 50 {
            let draw = mix(document << 32 | word) % 100;
            text.push_str(&format!("{}{} ", if draw < 60 { "x" } else { "abcdef" }, draw + 100 * (document % topics)));
        }
        text.push('\n');
    }
    let (mut begins, mut ends) = lines(&text);
    begins.pop();
    ends.pop();
    (text, begins, ends)
}

#[test]
fn the_same_bits_on_every_row_and_number_of_threads() {
    let (text, begins, ends) = made(701, 3);
    let documents = Documents::new(text.as_bytes(), &begins, &ends, WORDS).unwrap();
    let compute = |context: &Context| {
        let mut tfidf = Tfidf::new(options(1000)).unwrap();
        tfidf.fit(context, &documents, false, &never).unwrap();
        let mut x = vec![f32::NAN; 701 * 1000];
        tfidf.transform(context, &documents, &mut x, &never).unwrap();
        (tfidf.idf().to_vec(), x)
    };
    let expected = compute(&context());
    assert!(expected.1.iter().all(|x| x.is_finite()));
    for (backend, threads) in [(Backend::Scalar, 1), (Backend::Parallel, 2), (Backend::Parallel, 5)] {
        assert!(compute(&context_of(backend, threads)) == expected, "{backend:?} {threads}");
    }
    // Weights that travel give the same vectors, and so does a stream of documents.
    let mut restored = Tfidf::new(options(1000)).unwrap();
    restored.set_idf(&expected.0).unwrap();
    assert!(transform(&restored, &documents) == expected.1);
    let mut stream = Tfidf::new(options(1000)).unwrap();
    for (from, to) in [(0, 1), (1, 333), (333, 701)] {
        let some = Documents::new(text.as_bytes(), &begins[from..to], &ends[from..to], WORDS).unwrap();
        stream.fit(&context(), &some, true, &never).unwrap();
    }
    assert!(stream.idf() == expected.0);
    // Given weights count as no documents: a stream begins again.
    stream.set_idf(&vec![1.0; 1000]).unwrap();
    stream.fit(&context(), &documents, true, &never).unwrap();
    assert!(stream.idf() == expected.0);
}

#[test]
fn options_change_vectors() {
    let text = "one two two\none three";
    let (begins, ends) = lines(text);
    let compute = |words: WordOptions, options: TfidfOptions| {
        let documents = Documents::new(text.as_bytes(), &begins, &ends, words).unwrap();
        let mut tfidf = Tfidf::new(options).unwrap();
        tfidf.fit(&context(), &documents, false, &never).unwrap();
        transform(&tfidf, &documents)
    };
    let plain = compute(WORDS, options(512));
    assert_eq!(plain, compute(WORDS, options(512)));
    assert_ne!(plain, compute(WordOptions { seed: 8, ..WORDS }, options(512)));
    let words = compute(WordOptions { pairs: false, ..WORDS }, options(512));
    assert_eq!(words.iter().filter(|x| **x != 0.0).count(), 4);
    assert_eq!(plain.iter().filter(|x| **x != 0.0).count(), 7);
    assert_ne!(plain, compute(WORDS, TfidfOptions { sublinear: false, ..options(512) }));
    assert!(plain.iter().any(|&x| x < 0.0) && plain.iter().any(|&x| x > 0.0));
    assert!(compute(WORDS, TfidfOptions { signed: false, ..options(512) }).iter().all(|&x| x >= 0.0));
    // Counts beyond those that are looked up.
    let many = "many ".repeat(1000) + "few few";
    let [begins, ends] = [[0, 5000], [5000, 5007]];
    let documents = Documents::new(many.as_bytes(), &begins, &ends, WordOptions { pairs: false, ..WORDS }).unwrap();
    for (sublinear, expected) in [(true, 1.0 + 1000f64.ln()), (false, 1000.0)] {
        let mut tfidf = Tfidf::new(TfidfOptions { sublinear, ..options(512) }).unwrap();
        tfidf.set_idf(&[1.0; 512]).unwrap();
        let whole = Documents::new(many.as_bytes(), &[0], &[5007], WordOptions { pairs: false, ..WORDS }).unwrap();
        let (x, whole) = (transform(&tfidf, &documents), transform(&tfidf, &whole));
        let twice = if sublinear { 1.0 + 2f64.ln() } else { 2.0 };
        assert!((dot(&x[..512], &whole) - expected / expected.hypot(twice)).abs() < 1e-6, "{sublinear}");
    }
    // One dimension holds everything.
    let one = compute(WORDS, TfidfOptions { signed: false, ..options(1) });
    assert!(one.iter().all(|x| (x - 1.0).abs() < 1e-6));
}

#[test]
fn bad_input_is_refused_and_changes_nothing() {
    let (text, begins, ends) = made(40, 2);
    let documents = Documents::new(text.as_bytes(), &begins, &ends, WORDS).unwrap();
    for dimensions in [0, MOST_DIMENSIONS + 1] {
        assert_eq!(Tfidf::new(options(dimensions)).err().unwrap().kind, ErrorKind::Argument);
    }
    let mut tfidf = Tfidf::new(options(64)).unwrap();
    let mut x = vec![0.0; 40 * 64];
    let error = tfidf.transform(&context(), &documents, &mut x, &never).unwrap_err();
    assert_eq!(error.kind, ErrorKind::State);
    tfidf.fit(&context(), &documents, false, &never).unwrap();
    let idf = tfidf.idf().to_vec();
    assert_eq!(tfidf.transform(&context(), &documents, &mut x[64..], &never).unwrap_err().kind, ErrorKind::Shape);
    for bad in [f32::NAN, f32::INFINITY, -1.0, 1e-9, 1e9] {
        let mut given = vec![1.0; 64];
        given[5] = bad;
        let error = tfidf.set_idf(&given).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Argument);
        assert!(error.message.contains("idf[5]"), "{error}");
    }
    assert_eq!(tfidf.set_idf(&[1.0; 63]).unwrap_err().kind, ErrorKind::Shape);
    let none = Documents::new(b"", &[], &[], WORDS).unwrap();
    assert_eq!(tfidf.fit(&context(), &none, false, &never).unwrap_err().kind, ErrorKind::Argument);
    assert_eq!(tfidf.fit(&context(), &documents, true, &|| true).unwrap_err().kind, ErrorKind::Cancelled);
    assert_eq!(tfidf.transform(&context(), &documents, &mut x, &|| true).unwrap_err().kind, ErrorKind::Cancelled);
    assert_eq!(tfidf.idf(), idf);
    // Weights of 0, and the least and the most that may be given: rows are 0 or have a length.
    for (weight, length) in [(0.0, 0.0), (1e-6, 1.0), (9.9e5, 1.0)] {
        tfidf.set_idf(&[weight; 64]).unwrap();
        let x = transform(&tfidf, &documents);
        assert!(x.chunks(64).all(|row| (dot(row, row) - length).abs() < 1e-5), "{weight}");
    }
}

#[test]
fn logarithms_are_right_to_the_last_places() {
    let numbers = (1..200_000).map(f64::from).chain((0..5000).map(|i| (0.01 * f64::from(i)).exp()));
    for x in numbers.flat_map(|x| [x, 1.0 + 1.0 / x]) {
        assert!((ln(x) - x.ln()).abs() <= 1e-15 * x.ln().max(0.01), "ln {x}");
    }
    assert_eq!(ln(1.0), 0.0);
}

/// Clusters `x` [n, d] into as many clusters as there are corpora; the part of the documents that are of the corpus that most of
/// their cluster is of.
fn purity(x: &[f32], d: usize, corpora: &[usize], k: usize) -> f64 {
    let mut kmeans =
        KMeans::new(context(), KMeansOptions { clusters: k, seed: 1, ..KMeansOptions::default() }).unwrap();
    let hooks = Hooks { progress: None, cancelled: &never };
    let labels = kmeans.fit(&Points::new(x, corpora.len(), d, &[]).unwrap(), hooks).unwrap();
    let mut table = vec![vec![0; k]; k];
    labels.iter().zip(corpora).for_each(|(&label, &corpus)| table[label as usize][corpus] += 1);
    table.iter().map(|row| *row.iter().max().unwrap()).sum::<usize>() as f64 / corpora.len() as f64
}

#[test]
fn k_means_tells_topics_apart() {
    let (text, begins, ends) = made(600, 3);
    let documents = Documents::new(text.as_bytes(), &begins, &ends, WORDS).unwrap();
    let mut tfidf = Tfidf::new(options(1024)).unwrap();
    tfidf.fit(&context(), &documents, false, &never).unwrap();
    let topics: Vec<usize> = (0..600).map(|i| i % 3).collect();
    assert_eq!(purity(&transform(&tfidf, &documents), 1024, &topics, 3), 1.0);
}

/// The first megabyte of each of three corpora, in windows of about 2048 bytes.
#[test]
fn k_means_tells_corpora_apart() {
    let (mut text, mut corpora, mut begins, mut ends) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (corpus, name) in ["tinyshakespeare.txt", "peps.txt", "state_union.txt"].into_iter().enumerate() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data").join(name);
        let Ok(mut bytes) = std::fs::read(&path) else {
            println!("skipped: {} is not there", path.display());
            return;
        };
        bytes.truncate(1_000_000);
        windows(&bytes, 2048, 2048, &mut |begin, end| {
            begins.push((text.len() + begin) as i64);
            ends.push((text.len() + end) as i64);
            corpora.push(corpus);
        });
        text.extend(bytes);
    }
    let documents = Documents::new(&text, &begins, &ends, WORDS).unwrap();
    let mut tfidf = Tfidf::new(options(1024)).unwrap();
    tfidf.fit(&context(), &documents, false, &never).unwrap();
    let purity = purity(&transform(&tfidf, &documents), 1024, &corpora, 3);
    println!("purity of {} windows: {purity}", corpora.len());
    assert!(purity > 0.97, "{purity}");
}
