//! The kernels: which file of cuda/ each stands in, and the modules that the driver makes of them when they are first needed.
//! Each kernel is a module of its own: compiling all of a file would take the driver seconds, most of it for kernels of other
//! sizes than those in use.

use super::driver::{done, failure};
use crate::tensor::error::{Error, ErrorKind, Result, ensure, error};
use cust::sys::{
    CUfunction, CUfunction_attribute, CUjit_option, CUmodule, CUresult, cuFuncSetAttribute, cuModuleGetFunction,
    cuModuleLoadDataEx, cuModuleUnload,
};
use parking_lot::Mutex;
use std::ffi::{CStr, c_int};
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

macro_rules! kernels {
    ($($file:ident { $($kernel:ident),* $(,)? })*) => {
        #[allow(non_camel_case_types)]
        #[derive(Clone, Copy)]
        enum File {
            $($file,)*
        }

        /// Compiled to PTX, as build.rs packed it.
        const FILES: &[(&str, &[u8])] = &[
            $((stringify!($file), include_bytes!(concat!(env!("OUT_DIR"), "/ptx/", stringify!($file)))),)*
        ];

        /// A kernel, under its name in cuda/.
        #[allow(non_camel_case_types)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Kernel {
            $($($kernel,)*)*
        }

        #[cfg(test)]
        impl Kernel {
            pub fn all() -> impl Iterator<Item = Kernel> {
                [$($(Kernel::$kernel,)*)*].into_iter()
            }
        }

        /// The file of each, and its name with a NUL at the end.
        const KERNELS: &[(File, &str)] = &[$($((File::$file, concat!(stringify!($kernel), "\0")),)*)*];
    };
}

kernels! {
    elementwise { fill, add, scale, dropout, clamp }
    reduce { sum_squares_blocks, add_block_sums, first_non_finite }
    activation {
        quantize_activations_512, quantize_activations_2048, quantize_activations_wide, dequantize_activations,
    }
    rope { rope }
    embedding { embedding, embedding_backward }
    feed_forward { squared_relu, squared_relu_backward, gated_squared_relu, gated_squared_relu_backward }
    attention {
        attention_backward_products, attention_32, attention_64, attention_backward_keys_32, attention_backward_keys_64,
        attention_backward_queries_32, attention_backward_queries_64, attention_few, attention_few_join,
    }
    attention_cached { attention_cached, attention_cached_join }
    norm {
        rms_norm_512, rms_norm_2048, rms_norm_16384, rms_norm_long,
        rms_norm_backward_8192, rms_norm_backward_means, rms_norm_backward_long, add_chunks,
    }
    fused_norm {
        rms_norm_quantize_512, rms_norm_quantize_2048, rms_norm_quantize_16384, rms_norm_quantize_long,
        squared_relu_norm_quantize_512, squared_relu_norm_quantize_2048, squared_relu_norm_quantize_16384,
        squared_relu_norm_quantize_long, gated_squared_relu_norm_quantize_512,
        gated_squared_relu_norm_quantize_2048, gated_squared_relu_norm_quantize_16384,
        gated_squared_relu_norm_quantize_long,
        squared_relu_norm_backward_8192, squared_relu_norm_backward_means, squared_relu_norm_backward_long,
        gated_squared_relu_norm_backward_8192, gated_squared_relu_norm_backward_means,
        gated_squared_relu_norm_backward_long,
    }
    cross_entropy {
        cross_entropy_1024, cross_entropy_long, cross_entropy_gradient_1024, cross_entropy_gradient_long,
    }
    matmul {
        matmul_rows_rows, matmul_rows_columns, matmul_columns_columns, matmul_rows_rows_small,
        matmul_rows_columns_small, matmul_columns_columns_small, matmul_add_slices, matmul_1_by_rows,
        matmul_4_by_rows, matmul_16_by_rows, matmul_1_by_columns, matmul_4_by_columns, matmul_16_by_columns,
        matmul_ternary_backward, matmul_ternary_backward_small, matmul_ternary_weights,
    }
    matmul_ternary {
        matmul_ternary_large, matmul_ternary_medium, matmul_ternary_small, matmul_ternary_groups,
        matmul_ternary_groups_small, matmul_ternary_1, matmul_ternary_8, matmul_ternary_8_narrow, matmul_ternary_8_groups,
        matmul_ternary_16, matmul_ternary_16_narrow, matmul_ternary_16_groups, matmul_ternary_narrow_groups,
        matmul_ternary_codes, matmul_ternary_turn,
        matmul_ternary_two_bit, matmul_ternary_five, matmul_ternary_mask_sign,
    }
    matmul_ternary_qkv {
        matmul_ternary_qkv, matmul_ternary_qkv_small, matmul_ternary_qkv_8, matmul_ternary_qkv_16,
    }
    integer_gradient {
        quantize_columns, weight_gradient, weight_gradient_medium, weight_gradient_small,
    }
    scheme {
        absmean_groups, mean_above_groups, absmean_blocks, absmean_of_blocks, mean_above_blocks, mean_above_of_blocks,
        ternarize, ternarize_stochastic, deternarize,
    }
    magnitudes {
        absmedian_8, least_squares_8, absmedian_32, absmedian_128, absmedian_256, absmedian_512, absmedian_1024,
        least_squares_32, least_squares_128, least_squares_256, least_squares_512, least_squares_1024,
        absmedian_groups, absmedian_counts, absmedian_select, least_squares_groups, largest_magnitude,
        least_squares_histogram, least_squares_interval, least_squares_gather, least_squares_sums,
        least_squares_tiles, least_squares_scale,
    }
    ternary {
        pack_two_bit, unpack_two_bit, check_two_bit, check_two_bit_ends, check_five, check_five_ends, pack_five,
        unpack_five, five_trits,
    }
    mask_sign { mask_sign_sizes, pack_mask_sign, check_mask_sign, unpack_mask_sign, mask_sign_trits }
    gradient {
        quantize_gradients, quantize_gradients_wide, largest_gradients, gradient_scales, quantize_gradients_by,
        dequantize_gradients, measure_gradients, measure_gradient_blocks, gradient_thresholds_of_blocks,
        gradient_scales_of_blocks, ternarize_gradients, copy_gradient_scales,
    }
    kmeans {
        kmeans_check_rows, kmeans_spread, kmeans_frame, kmeans_pack, kmeans_scores_2, kmeans_scores_4, kmeans_scores_8,
        kmeans_scores_16, kmeans_settle, kmeans_exact,
    }
    kmeans_scores { kmeans_scores, kmeans_scores_long }
    kmeans_update { kmeans_check_labels, kmeans_starts, kmeans_update, kmeans_add_stripes, kmeans_distances }
    kmeans_seed { kmeans_lower, kmeans_gains }
    kmeans_closest { kmeans_squares, kmeans_nearest }
    codebook { codebook_labels, codebook_pack, codebook_pack_two, codebook_check, codebook_unpack }
    step {
        step_adamw, step_blocks, step_momentum, step_flips, step_sums_blocks, step_sums, step_factors_rows,
        step_factors_columns, step_factors_means, step_factors_whole,
    }
    sort { running_sums, sort_counts, sort_places }
}

impl Kernel {
    pub fn name(self) -> &'static str {
        KERNELS[self as usize].1.trim_end_matches('\0')
    }
}

pub struct Modules {
    /// By kernel; NULL until it was asked for.
    functions: [AtomicPtr<cust::sys::CUfunc_st>; KERNELS.len()],
    loaded: Mutex<Loaded>,
    /// By kernel: the most dynamic shared memory that was asked for, in bytes.
    allowed: Mutex<[u32; KERNELS.len()]>,
}

struct Loaded {
    /// By file: the text of its kernels.
    texts: [Option<Vec<u8>>; FILES.len()],
    modules: Vec<Module>,
}

impl Modules {
    pub const fn new() -> Modules {
        Modules {
            functions: [const { AtomicPtr::new(ptr::null_mut()) }; KERNELS.len()],
            loaded: Mutex::new(Loaded { texts: [const { None }; FILES.len()], modules: Vec::new() }),
            allowed: Mutex::new([0; KERNELS.len()]),
        }
    }

    /// The context is current.
    pub fn function(&self, kernel: Kernel) -> Result<CUfunction> {
        let slot = &self.functions[kernel as usize];
        let known = || Some(slot.load(Ordering::Acquire)).filter(|function| !function.is_null());
        if let Some(function) = known() {
            return Ok(function);
        }
        let (file, name) = KERNELS[kernel as usize];
        let mut loaded = self.loaded.lock();
        if let Some(function) = known() {
            return Ok(function); // another thread was faster
        }
        let Loaded { texts, modules } = &mut *loaded;
        let text = match &mut texts[file as usize] {
            Some(text) => text,
            empty => empty.insert(unpack(FILES[file as usize])?),
        };
        let alone = only(text, kernel.name())?;
        let text = CStr::from_bytes_with_nul(&alone).map_err(|_| error!(Internal, "the kernel does not end"))?;
        let module = Module::load(text)?;
        let mut function = ptr::null_mut();
        // SAFETY: `function` is a local; the name ends with a NUL.
        done(unsafe { cuModuleGetFunction(&raw mut function, module.0, name.as_ptr().cast()) })?;
        modules.push(module);
        slot.store(function, Ordering::Release);
        Ok(function)
    }

    /// Lets a kernel be run with so many bytes of dynamic shared memory. What is allowed never becomes less: another thread may
    /// be about to run the same kernel with more.
    pub fn allow_shared(&self, kernel: Kernel, function: CUfunction, bytes: u32) -> Result<()> {
        let mut allowed = self.allowed.lock();
        let most = &mut allowed[kernel as usize];
        if bytes > *most {
            let attribute = CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            // SAFETY: a function of a module that lives as long as `self`.
            done(unsafe { cuFuncSetAttribute(function, attribute, bytes as c_int) })?;
            *most = bytes;
        }
        Ok(())
    }
}

fn unpack((name, packed): (&str, &[u8])) -> Result<Vec<u8>> {
    super::unpack::unpack(packed).map_err(|error| error.within(name))
}

/// A file's text without its other kernels: what stands outside of all, and from the kernel's `.entry` to the brace that ends it.
fn only(text: &[u8], kernel: &str) -> Result<Vec<u8>> {
    const ENTRY: &[u8] = b".visible .entry ";
    let mut found = false;
    let mut alone = Vec::new();
    // Inside of a kernel: whether it is the one, and how many braces are open, once one was.
    let mut inside: Option<(bool, Option<usize>)> = None;
    for line in text.split_inclusive(|&byte| byte == b'\n') {
        if let (None, Some(rest)) = (inside, line.strip_prefix(ENTRY)) {
            let wanted = rest.strip_prefix(kernel.as_bytes()).is_some_and(|rest| rest.starts_with(b"("));
            found |= wanted;
            inside = Some((wanted, None));
        }
        if inside.is_none_or(|(wanted, _)| wanted) {
            alone.extend_from_slice(line);
        }
        if let Some((_, open)) = &mut inside {
            for byte in line {
                match byte {
                    b'{' => *open = Some(open.unwrap_or(0) + 1),
                    b'}' => *open = open.map(|open| open.saturating_sub(1)),
                    _ => {}
                }
            }
            if *open == Some(0) {
                inside = None;
            }
        }
    }
    ensure!(found && inside.is_none(), Internal, "kernels of this build lack {kernel}");
    Ok(alone)
}

/// PTX compiled for the device by the driver.
pub struct Module(CUmodule);

// SAFETY: a handle of the driver's, which any thread may use.
unsafe impl Send for Module {}
// SAFETY: as above.
unsafe impl Sync for Module {}

impl Module {
    /// The context is current. The error holds what the compiler says.
    pub fn load(text: &CStr) -> Result<Module> {
        let mut log = [0u8; 2048];
        let mut options = [CUjit_option::CU_JIT_ERROR_LOG_BUFFER, CUjit_option::CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES];
        let mut values = [log.as_mut_ptr().cast(), ptr::without_provenance_mut(log.len() - 1)];
        let mut module = ptr::null_mut();
        let (options, values) = (options.as_mut_ptr(), values.as_mut_ptr());
        // SAFETY: the text ends with a NUL; each of the two options has its value; the log has the stated size.
        let code = unsafe { cuModuleLoadDataEx(&raw mut module, text.as_ptr().cast(), 2, options, values) };
        if code == CUresult::CUDA_SUCCESS {
            return Ok(Module(module));
        }
        let reason = failure();
        let log = String::from_utf8_lossy(log.split(|&byte| byte == 0).next().unwrap_or_default());
        let kind = if code == CUresult::CUDA_ERROR_OUT_OF_MEMORY { ErrorKind::Memory } else { ErrorKind::Device };
        Err(Error::new(kind, format!("driver failed: {reason}: {}", log.trim())))
    }
}

impl Drop for Module {
    fn drop(&mut self) {
        // SAFETY: loaded by `load`; its functions are not used afterwards.
        let _ = unsafe { cuModuleUnload(self.0) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every kernel is cut out of its file, with what it needs and without the others.
    #[test]
    fn a_kernel_stands_alone() {
        for kernel in Kernel::all() {
            let (file, text) = FILES[KERNELS[kernel as usize].0 as usize];
            let text = String::from_utf8(unpack((file, text)).unwrap()).unwrap();
            let alone = String::from_utf8(only(text.as_bytes(), kernel.name()).unwrap()).unwrap();
            let entries = |text: &str| text.matches(".entry ").count();
            assert_eq!((entries(&alone), alone.matches(&format!(".entry {}(", kernel.name())).count()), (1, 1));
            assert!(alone.starts_with(".version ") && alone.ends_with("\0"), "{}", kernel.name());
            assert_eq!(alone.matches('{').count(), alone.matches('}').count());
            // What is declared outside of all kernels.
            let shared = |text: &str| {
                text.lines().take_while(|line| !line.contains(".entry ")).map(str::to_owned).collect::<Vec<_>>()
            };
            assert!(shared(&text).iter().all(|line| alone.contains(line.as_str())), "{}", kernel.name());
            if entries(&text) == 1 {
                assert_eq!(alone, text);
            }
        }
    }

    #[test]
    fn a_name_is_not_part_of_another() {
        let text =
            b".version 7.0\n.visible .entry ab(\n)\n{\n{ x; }\n}\n.shared s;\n.visible .entry a(\n)\n{\ny;\n}\n\0";
        let alone = |name| only(text, name).map(|text| String::from_utf8(text).unwrap());
        assert_eq!(alone("a").unwrap(), ".version 7.0\n.shared s;\n.visible .entry a(\n)\n{\ny;\n}\n\0");
        assert_eq!(alone("ab").unwrap(), ".version 7.0\n.visible .entry ab(\n)\n{\n{ x; }\n}\n.shared s;\n\0");
        assert_eq!(alone("b").unwrap_err().message, "kernels of this build lack b");
    }
}
