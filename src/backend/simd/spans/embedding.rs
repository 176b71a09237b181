use super::math::{load_up_to, store_up_to};
use super::vector::{load, store};

/// One block of columns: tokens in order, so that every row of the table sums in token order.
pub unsafe extern "C" fn embedding_backward(
    tokens: *const u32,
    count: usize,
    dy: *const f32,
    width: usize,
    columns: usize,
    dtable: *mut f32,
) {
    for i in 0..count {
        let from = dy.add(i * width);
        let to = dtable.add(*tokens.add(i) as usize * width);
        let mut j = 0;
        while j + 8 <= columns {
            store(to.add(j), load(to.add(j)) + load(from.add(j)));
            j += 8;
        }
        if j < columns {
            let rest = columns - j;
            store_up_to(to.add(j), load_up_to(to.add(j), rest) + load_up_to(from.add(j), rest), rest);
        }
    }
}
