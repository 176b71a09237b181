# awk -f kernels.awk file.cu | awk -f roundings.awk - file.ptx: fails where a kernel that promises its bits has an operation
# that may round otherwise than written: a fused multiply-add of floats, a product or sum without .rn, which may become one,
# an approximation, or a flush of small numbers to zero. `fused` in device.cuh is meant, and says so.
FNR == NR { if ($2 == "tolerance") exempt[$1] = 1; next }
/\.entry / { kernel = $0; sub(/.*\.entry /, "", kernel); sub(/\(.*/, "", kernel) }
/^\.(visible |weak )?\.?func / { kernel = "a function" }
/(fma|mad)\.(rn|rz|rm|rp|f32|f64)|(mul|add|sub)\.f(32|64)|\.approx|\.ftz|\.full/ && !(kernel in exempt) && !/; \/\/ one rounding$/ {
    print FILENAME ": " kernel ": " $0
    wrong = 1
}
END { exit wrong }
