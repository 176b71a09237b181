#!/usr/bin/env bash
# mutate.sh folder: breaks the kernels in one place after the other, in copies, and fails where check_kernels, or
# check_products, does not notice.
set -eu
cd "$(dirname "$0")/.."
mkdir -p "$1"
folder=$(cd "$1" && pwd)
rm -rf "$folder"/[0-9]*

check=check_kernels
# build copy, run copy: the check of the kernels in that folder.
build() {
    "${CXX:-g++}" -std=c++17 -O1 -ffp-contract=off -fno-math-errno -DSETUN_EMULATE -I"$1" -Iemulate -w \
        -fsanitize=alignment,bounds -fsanitize-undefined-trap-on-error -c -o "$1/check.o" "emulate/$check.cpp" &&
        "${OBJCOPY:-objcopy}" --rename-section .bss=shared_test "$1/check.o" &&
        "${CXX:-g++}" -pthread -o "$1/check" "$1/check.o" "$folder/engine.o" "$folder/memory.o"
}
run() {
    SETUN_EMULATE_ALIGNMENT=16 timeout 120 "$1/check" 2>&1 | head -c 2000 >"$1/words"
    return "${PIPESTATUS[0]}"
}

for part in engine memory; do
    "${CXX:-g++}" -std=c++17 -O2 -Iemulate -c -o "$folder/$part.o" "emulate/$part.cpp"
done

number=0
fresh() {
    number=$((number + 1))
    copy=$folder/$number
    mkdir "$copy"
    cp ./*.cu ./*.cuh "$copy"
}

for check in check_products check_kernels; do
    fresh
    build "$copy"
    if ! run "$copy"; then
        cat "$copy/words"
        echo "$check fails on the kernels as they are" >&2
        exit 1
    fi
done

# examine copy 'what': one line of what came of it.
examine() {
    if ! build "$1" 2>"$1/words"; then
        echo "does not compile: $2: $(head -n 1 "$1/words")"
        touch "$1/unnoticed"
    elif run "$1"; then
        echo "not noticed: $2"
        touch "$1/unnoticed"
    else
        echo "noticed: $2: $(head -c 120 "$1/words" | head -n 1)"
    fi
    rm -f "$1"/check*
}

jobs=$(nproc)
# mutate 'what' file 'script of sed -z'
mutate() {
    fresh
    sed -z -i "$3" "$copy/$2"
    if cmp -s "$2" "$copy/$2"; then
        echo "$1: nothing to change in $2" >&2
        exit 1
    fi
    [ "$(jobs -rp | wc -l)" -lt "$jobs" ] || wait -n
    examine "$copy" "$1" &
}

mutate 'no barrier before the sums of the warps are read' canonical.cuh \
    's/__syncthreads();\n    if (warp_number() == 0) {/if (warp_number() == 0) {/'
mutate 'the sum of one warp left out' canonical.cuh 's/warp = 1; warp < blockDim/warp = 2; warp < blockDim/'
mutate 'sums taken to be exact that are not' canonical.cuh 's/127 - 23 + 53/127 - 23 + 60/'
mutate 'numbers in order, one lane off' canonical.cuh 's/base + 32 + lane_number()/base + 31 + lane_number()/'
mutate 'lanes folded from 8 on' canonical.cuh \
    's/distance = 16; distance > 0; distance \/= 2) lane/distance = 8; distance > 0; distance \/= 2) lane/'
mutate 'the last of a block left out' canonical.cuh 's/for (; i < count; i += 32)/for (; i + 1 < count; i += 32)/'
mutate 'a step past the end of a block' canonical.cuh 's/i + 32 \* (STEP - 1) < count/i < count/'
mutate 'blocks of another size' canonical.cuh 's/CANONICAL_BLOCK = 4096/CANONICAL_BLOCK = 2048/'
mutate 'no barrier before the values of warps are written' device.cuh \
    's/__syncthreads();\n\(    if (lane_number() == 0) of_warps\)/\1/g'
mutate 'no barrier before the values of warps are read' device.cuh \
    's/= value;\n    __syncthreads();\n    return __reduce_max/= value;\n    return __reduce_max/'
mutate 'a vector of another thread' activation.cu 's/\(q = thread + static_cast<u64>(VECTORS) \* count\)/\1 + 1/g'
mutate 'the rest of a row left out' activation.cu 's/\(i = 4 \* quads + thread; i < k\)/\1 \/ 4 * 4/g'
mutate 'no barrier in the sort' embedding.cu 's/            }\n            __syncthreads();/            }/'
mutate 'sorting that stops too early' embedding.cu 's/size <= length/size < length/'
mutate 'a list that is filled too far' embedding.cu 's/used > LIST - TILE/used > LIST/'
mutate 'no barrier before the list is used anew' embedding.cu \
    's/__syncthreads();\n        if (threadIdx.x == 0) count = 0;/if (threadIdx.x == 0) count = 0;/'
mutate 'a token past the last' embedding.cu 's/first + i >= n/first + i > n/'
mutate 'the last row not stored' embedding.cu 's/if (count > 0) row_of/if (count > 1) row_of/'

check=check_products
mutate 'a stage that is not waited for' ternary_tiles.cuh 's/wait_for_groups<STAGES - 2>/wait_for_groups<STAGES - 1>/'
mutate 'no barrier before a stage is copied to' ternary_tiles.cuh 's/__syncthreads();\n            begin(step/begin(step/'
mutate 'no barrier before the stages are written over' ternary_tiles.cuh \
    's/__syncthreads();\n        in_fours/in_fours/'
mutate 'halves of a fragment exchanged' ternary_tiles.cuh 's/a\[i\]\[odd\]\[half + 2\]/a[i][odd][3 - half]/'
mutate 'odd columns twice' ternary_tiles.cuh 's/odd = word >> 2 \& 0x33333333u/odd = word \& 0x33333333u/'
mutate 'a row of codes past the last' ternary_tiles.cuh 's/row + i \* CODE_STEP < p.m/row + i * CODE_STEP <= p.m/'
mutate 'a column past the last' matmul_ternary.cu 's/row >= p.m || column >= p.n/row >= p.m || column > p.n/'
mutate 'a band of tiles that is too high' tiles.cuh 's/min(BAND, down - band \* BAND)/BAND/'
mutate 'a slab that is read before it is written' tiles.cuh 's/__syncwarp();\n#pragma unroll 1/\n#pragma unroll 1/'
mutate 'no barrier after few rows are cleared' ternary_rows.cuh 's/of_block\[i\] = 0;\n            __syncthreads();/of_block[i] = 0;/'
mutate 'no barrier before few rows are read' ternary_rows.cuh \
    's/hand_over(sums, of_block);\n            __syncthreads();/hand_over(sums, of_block);/'
mutate 'a step of few rows that is multiplied again' ternary_rows.cuh 's/step = next;//'

wait
unnoticed=$(find "$folder" -name unnoticed | wc -l)
[ "$unnoticed" = 0 ] || { echo "$unnoticed mutations were not noticed" >&2; exit 1; }
