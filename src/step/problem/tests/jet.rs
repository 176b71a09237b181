//! Numbers that carry two derivatives and the mixed one, so that a test problem is only its formula.

use std::iter::Sum;
use std::ops::{Add, Div, Mul, Neg, Sub};

/// f, its derivatives along u and along v, and the second one along both.
#[derive(Clone, Copy, Debug)]
pub struct Jet {
    pub f: f64,
    pub u: f64,
    pub v: f64,
    pub uv: f64,
}

pub fn j(f: f64) -> Jet {
    Jet { f, u: 0.0, v: 0.0, uv: 0.0 }
}

impl Jet {
    /// A function of this with the value f and the derivatives d and dd.
    fn chain(self, f: f64, d: f64, dd: f64) -> Jet {
        Jet { f, u: d * self.u, v: d * self.v, uv: d * self.uv + dd * self.u * self.v }
    }

    pub fn exp(self) -> Jet {
        let e = self.f.exp();
        self.chain(e, e, e)
    }

    pub fn ln(self) -> Jet {
        self.chain(self.f.ln(), 1.0 / self.f, -1.0 / (self.f * self.f))
    }

    pub fn sin(self) -> Jet {
        let (s, c) = self.f.sin_cos();
        self.chain(s, c, -s)
    }

    pub fn cos(self) -> Jet {
        let (s, c) = self.f.sin_cos();
        self.chain(c, -s, -c)
    }

    pub fn atan(self) -> Jet {
        let d = 1.0 / (1.0 + self.f * self.f);
        self.chain(self.f.atan(), d, -2.0 * self.f * d * d)
    }

    pub fn powi(self, k: i32) -> Jet {
        let (x, p) = (self.f, f64::from(k));
        let dd = if k < 2 { 0.0 } else { p * (p - 1.0) * x.powi(k - 2) };
        self.chain(x.powi(k), if k == 0 { 0.0 } else { p * x.powi(k - 1) }, dd)
    }

    pub fn powf(self, p: f64) -> Jet {
        let x = self.f;
        self.chain(x.powf(p), p * x.powf(p - 1.0), p * (p - 1.0) * x.powf(p - 2.0))
    }
}

impl Add for Jet {
    type Output = Jet;
    fn add(self, o: Jet) -> Jet {
        Jet { f: self.f + o.f, u: self.u + o.u, v: self.v + o.v, uv: self.uv + o.uv }
    }
}

impl Neg for Jet {
    type Output = Jet;
    fn neg(self) -> Jet {
        self * -1.0
    }
}

impl Sub for Jet {
    type Output = Jet;
    fn sub(self, o: Jet) -> Jet {
        self + -o
    }
}

impl Mul for Jet {
    type Output = Jet;
    fn mul(self, o: Jet) -> Jet {
        Jet {
            f: self.f * o.f,
            u: self.u * o.f + self.f * o.u,
            v: self.v * o.f + self.f * o.v,
            uv: self.uv * o.f + self.u * o.v + self.v * o.u + self.f * o.uv,
        }
    }
}

impl Div for Jet {
    type Output = Jet;
    fn div(self, o: Jet) -> Jet {
        let i = 1.0 / o.f;
        self * o.chain(i, -i * i, 2.0 * i * i * i)
    }
}

impl Add<f64> for Jet {
    type Output = Jet;
    fn add(self, o: f64) -> Jet {
        Jet { f: self.f + o, ..self }
    }
}

impl Sub<f64> for Jet {
    type Output = Jet;
    fn sub(self, o: f64) -> Jet {
        self + -o
    }
}

impl Mul<f64> for Jet {
    type Output = Jet;
    fn mul(self, o: f64) -> Jet {
        Jet { f: self.f * o, u: self.u * o, v: self.v * o, uv: self.uv * o }
    }
}

impl Div<f64> for Jet {
    type Output = Jet;
    fn div(self, o: f64) -> Jet {
        self * (1.0 / o)
    }
}

impl Sum for Jet {
    fn sum<I: Iterator<Item = Jet>>(all: I) -> Jet {
        all.fold(j(0.0), |sum, x| sum + x)
    }
}
