use super::vector::{load, store};

pub unsafe extern "C" fn add(x: *const f32, y: *mut f32, n: usize) {
    let mut i = 0;
    while i + 8 <= n {
        store(y.add(i), load(y.add(i)) + load(x.add(i)));
        i += 8;
    }
    while i < n {
        *y.add(i) += *x.add(i);
        i += 1;
    }
}
