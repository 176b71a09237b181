use super::math::{load_part, map, map_two, relu, store_part};
use super::vector::{load, store};
use wide::f32x8;

pub unsafe extern "C" fn squared_relu(x: *const f32, y: *mut f32, n: usize) {
    map(x, y, n, |x| {
        let r = relu(x);
        r * r
    });
}

pub unsafe extern "C" fn squared_relu_backward(x: *const f32, dy: *const f32, dx: *mut f32, n: usize) {
    map_two(x, dy, dx, n, |x, dy| {
        let r = relu(x);
        dy * (r + r)
    });
}

pub unsafe extern "C" fn gated_squared_relu(gate: *const f32, up: *const f32, y: *mut f32, n: usize) {
    map_two(gate, up, y, n, |gate, up| {
        let r = relu(gate);
        r * r * up
    });
}

pub unsafe extern "C" fn gated_squared_relu_backward(
    gate: *const f32,
    up: *const f32,
    dy: *const f32,
    dgate: *mut f32,
    dup: *mut f32,
    n: usize,
) {
    let gradients = |gate: f32x8, up: f32x8, dy: f32x8| {
        let r = relu(gate);
        (dy * up * (r + r), dy * (r * r))
    };
    let mut i = 0;
    while i + 8 <= n {
        let (to_gate, to_up) = gradients(load(gate.add(i)), load(up.add(i)), load(dy.add(i)));
        store(dgate.add(i), to_gate);
        store(dup.add(i), to_up);
        i += 8;
    }
    let rest = n - i;
    if rest > 0 {
        let part = |p: *const f32| load_part(p.add(i), rest, 0.0);
        let (to_gate, to_up) = gradients(part(gate), part(up), part(dy));
        store_part(dgate.add(i), to_gate, rest);
        store_part(dup.add(i), to_up, rest);
    }
}
