//! For tests: the whole model once more, in plain f64 loops that share no code with the kernels.
//!
//! The straight-through estimator treats a quantizer Q as x + (Q(x) - x) with the bracket constant. `Plain` does just that:
//! a first run records every bracket, later runs replay them, and so central differences of the replayed loss are the
//! straight-through gradient, exactly.

use super::ModelOptions;

pub struct Plain {
    pub options: ModelOptions,
    pub parameters: Vec<Vec<f64>>,
    brackets: Vec<Vec<f64>>,
    replay: Option<usize>,
}

impl Plain {
    pub fn new(options: ModelOptions, parameters: Vec<Vec<f64>>) -> Plain {
        Plain { options, parameters, brackets: Vec::new(), replay: None }
    }

    /// The mean loss with the true quantizers, recording their brackets.
    pub fn record(&mut self, tokens: &[u32], targets: &[u32], length: usize) -> f64 {
        self.brackets.clear();
        self.replay = None;
        self.loss(tokens, targets, length)
    }

    /// The mean loss with the recorded brackets.
    pub fn replay(&mut self, tokens: &[u32], targets: &[u32], length: usize) -> f64 {
        self.replay = Some(0);
        self.loss(tokens, targets, length)
    }

    fn quantized(&mut self, x: Vec<f64>, quantize: impl Fn(&[f64]) -> Vec<f64>) -> Vec<f64> {
        if !self.options.quantize_weights {
            return x;
        }
        let bracket = match &mut self.replay {
            Some(next) => {
                *next += 1;
                self.brackets[*next - 1].clone()
            }
            None => {
                let bracket: Vec<f64> = quantize(&x).iter().zip(&x).map(|(q, x)| q - x).collect();
                self.brackets.push(bracket.clone());
                bracket
            }
        };
        x.iter().zip(&bracket).map(|(x, b)| x + b).collect()
    }

    fn weight(&mut self, index: usize) -> Vec<f64> {
        let w = self.parameters[index].clone();
        self.quantized(w, |w| {
            let gamma = (w.iter().map(|w| w.abs()).sum::<f64>() / w.len() as f64).max(1e-5);
            w.iter().map(|&w| gamma * (w / gamma).round().clamp(-1.0, 1.0)).collect()
        })
    }

    fn activation(&mut self, x: Vec<f64>) -> Vec<f64> {
        self.quantized(x, |x| {
            let a = x.iter().fold(1e-5, |a: f64, x| a.max(x.abs()));
            x.iter().map(|x| (x * (127.0 / a)).round_ties_even().clamp(-127.0, 127.0) * (a / 127.0)).collect()
        })
    }

    fn norm(&self, x: &[f64], gain: usize) -> Vec<f64> {
        let mean = x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64;
        let scale = 1.0 / (mean + self.options.norm_epsilon).sqrt();
        x.iter().zip(&self.parameters[gain]).map(|(x, g)| x * scale * g).collect()
    }

    fn loss(&mut self, tokens: &[u32], targets: &[u32], length: usize) -> f64 {
        let logits = self.logits(tokens, length);
        let losses = logits.iter().zip(targets).map(|(logits, &target)| {
            let sum: f64 = logits.iter().map(|l| l.exp()).sum();
            sum.ln() - logits[target as usize]
        });
        losses.sum::<f64>() / targets.len() as f64
    }

    /// The logits after each token. A sequence may be longer than the context: then each position sees the last
    /// `context_length` positions.
    pub fn logits(&mut self, tokens: &[u32], length: usize) -> Vec<Vec<f64>> {
        let per_layer = if self.options.ffn_gated { 11 } else { 10 };
        let width = self.options.width;
        let row = |table: &[f64], i: u32| table[i as usize * width..][..width].to_vec();
        let mut x: Vec<Vec<f64>> = tokens.iter().map(|&t| row(&self.parameters[0], t)).collect();
        for layer in 0..self.options.layers {
            self.layer(&mut x, 1 + layer * per_layer, length);
        }
        let last = 1 + self.options.layers * per_layer;
        let head = self.parameters[if self.options.tied_embedding { 0 } else { last + 1 }].clone();
        x.iter().map(|x| product(&self.norm(x, last), &head, width)).collect()
    }

    fn layer(&mut self, x: &mut [Vec<f64>], p: usize, length: usize) {
        let (width, gated) = (self.options.width, self.options.ffn_gated);
        let [wq, wk, wv, wo] = [p + 1, p + 2, p + 3, p + 5].map(|i| self.weight(i));
        let rows: Vec<[Vec<f64>; 3]> = (0..x.len())
            .map(|i| {
                let normed = self.norm(&x[i], p);
                let input = self.activation(normed);
                let mut qkv = [&wq, &wk, &wv].map(|w| product(&input, w, width));
                rotate(&mut qkv[0], i % length, &self.options);
                rotate(&mut qkv[1], i % length, &self.options);
                qkv
            })
            .collect();
        for i in 0..x.len() {
            let first = (i - i % length).max((i + 1).saturating_sub(self.options.context_length));
            let attended = attend(&rows[first..=i], &self.options);
            let normed = self.norm(&attended, p + 4);
            let input = self.activation(normed);
            add(&mut x[i], &product(&input, &wo, width));
        }
        let gate = gated.then(|| self.weight(p + 7));
        let up = self.weight(p + 7 + usize::from(gated));
        let down = self.weight(p + 9 + usize::from(gated));
        let hidden = self.options.hidden;
        for x in x {
            let normed = self.norm(x, p + 6);
            let input = self.activation(normed);
            let up = product(&input, &up, width);
            let relu_squared = |v: &f64| v.max(0.0) * v.max(0.0);
            let act: Vec<f64> = match &gate {
                Some(gate) => product(&input, gate, width).iter().zip(&up).map(|(g, u)| relu_squared(g) * u).collect(),
                None => up.iter().map(relu_squared).collect(),
            };
            let normed = self.norm(&act, p + 8 + usize::from(gated));
            let input = self.activation(normed);
            add(x, &product(&input, &down, hidden));
        }
    }
}

/// x W^T for W[n, k].
fn product(x: &[f64], w: &[f64], k: usize) -> Vec<f64> {
    w.chunks(k).map(|w| x.iter().zip(w).map(|(x, w)| x * w).sum()).collect()
}

fn add(x: &mut [f64], y: &[f64]) {
    x.iter_mut().zip(y).for_each(|(x, y)| *x += y);
}

fn rotate(x: &mut [f64], position: usize, options: &ModelOptions) {
    let e = options.head();
    for head in x.chunks_mut(e) {
        for i in 0..e / 2 {
            let angle = position as f64 / options.rope_theta.powf(2.0 * i as f64 / e as f64);
            let (a, b) = (head[i], head[i + e / 2]);
            head[i] = a * angle.cos() - b * angle.sin();
            head[i + e / 2] = b * angle.cos() + a * angle.sin();
        }
    }
}

/// The attention of the last of the given rows of q, k, v to all of them.
fn attend(rows: &[[Vec<f64>; 3]], options: &ModelOptions) -> Vec<f64> {
    let (e, group) = (options.head(), options.heads / options.kv_heads);
    let q = &rows[rows.len() - 1][0];
    let mut out = Vec::new();
    for h in 0..options.heads {
        let kv = h / group * e;
        let weights: Vec<f64> = rows
            .iter()
            .map(|row| ((0..e).map(|c| q[h * e + c] * row[1][kv + c]).sum::<f64>() / (e as f64).sqrt()).exp())
            .collect();
        let sum: f64 = weights.iter().sum();
        out.extend((0..e).map(|c| weights.iter().zip(rows).map(|(w, row)| w / sum * row[2][kv + c]).sum::<f64>()));
    }
    out
}
