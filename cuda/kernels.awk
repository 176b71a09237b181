# awk -f kernels.awk file.cu: the names of its kernels, a line each; "tolerance" after those of which the comment says it.
/^\/\/\// { if (/tolerance/) free = 1; next }
/^extern "C" __global__ void/ { text = "" ; inside = 1 }
inside {
    text = text " " $0
    name = text
    gsub(/__launch_bounds__\([^)]*\)/, "", name)
    if (name ~ /\(/) {
        sub(/\(.*/, "", name)
        sub(/ *$/, "", name)
        sub(/.* /, "", name)
        print name (free ? " tolerance" : "")
        inside = free = 0
    }
    next
}
{ free = 0 }
