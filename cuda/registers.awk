# awk -f registers.awk file.ptx: the same with the registers of each kind numbered in the order in which they appear in their
# kernel, from 1: what they are packed by (../build.rs).
function numbered(line,   out, name, kind, number) {
    out = ""
    while (match(line, /%[a-z]+[0-9]+/)) {
        name = substr(line, RSTART, RLENGTH)
        kind = name
        sub(/[0-9]+$/, "", kind)
        if (kind in last) {
            if (!(name in numbers)) numbers[name] = ++last[kind]
            number = kind numbers[name]
        } else {
            number = name # not declared here: one of the device's own
        }
        out = out substr(line, 1, RSTART - 1) number
        line = substr(line, RSTART + RLENGTH)
    }
    return out line
}
/^\.visible|^\.func|^\.entry/ { split("", numbers); split("", last) }
/^[ \t]*\.reg / && /%[a-z]+</ {
    kind = $NF
    sub(/<.*/, "", kind)
    last[kind] = 0
    print
    next
}
{ print numbered($0) }
