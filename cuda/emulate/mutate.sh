#!/usr/bin/env bash
# mutate.sh folder: breaks the kernels in one place after the other, in copies, and fails where check_kernels, check_products,
# check_kmeans or check_step, whichever has them, does not notice.
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

for check in check_products check_kmeans check_step check_kernels; do
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
mutate 'sums taken to be exact by what cancels' canonical.cuh 's/static_cast<double>(fabsf(value))/static_cast<double>(value)/'
mutate 'the size of one warp left out' canonical.cuh 's/size = __dadd_rn(size, sizes\[warp\]);//'
mutate 'numbers in order, one lane off' canonical.cuh 's/base + 32 + lane_number()/base + 31 + lane_number()/'
mutate 'lanes folded from 8 on' canonical.cuh \
    's/distance = 16; distance > 0; distance \/= 2) lane/distance = 8; distance > 0; distance \/= 2) lane/'
mutate 'the last of a block left out' canonical.cuh 's/for (; i < count; i += 32)/for (; i + 1 < count; i += 32)/g'
mutate 'a step past the end of a block' canonical.cuh 's/i - lane_number() + 32 \* STEP <= count/i - lane_number() < count/'
mutate 'blocks of another size' canonical.cuh 's/CANONICAL_BLOCK = 4096/CANONICAL_BLOCK = 2048/'
mutate 'no barrier before the values of warps are written' device.cuh \
    's/__syncthreads();\n\(    if (lane_number() == 0) of_warps\)/\1/g'
mutate 'no barrier before the values of warps are read' device.cuh \
    's/= value;\n    __syncthreads();\n    return __reduce_max/= value;\n    return __reduce_max/'
mutate 'a vector of another thread' activation.cu 's/\(q = thread + static_cast<u64>(VECTORS) \* count\)/\1 + 1/g'
mutate 'the rest of a row left out' activation.cu 's/quads : 0) + thread; i < k;/quads : 0) + thread; i < k \/ 4 * 4;/'
mutate 'no barrier in the sort' embedding.cu 's/            }\n            __syncthreads();/            }/'
mutate 'sorting that stops too early' embedding.cu 's/size <= length/size < length/'
mutate 'a list that is filled too far' embedding.cu 's/used > LIST - TILE/used > LIST/'
mutate 'no barrier before the list is used anew' embedding.cu \
    's/        if (threadIdx.x == 0) count = 0;\n        __syncthreads();/        if (threadIdx.x == 0) count = 0;/'
mutate 'a token past the last' embedding.cu 's/first + i >= n/first + i > n/'
mutate 'the last row not stored' embedding.cu 's/if (to != nullptr \&\& present) \*to = sum;\n    }/if (count > 1 \&\& present) *to = sum;\n    }/'
mutate 'a token taken for the one before' embedding.cu 's/!= list\[k - 1\] >> ROW_BITS/> 1 + (list[k - 1] >> ROW_BITS)/'

check=check_products
mutate 'a stage that is not waited for' ternary_tiles.cuh 's/wait_for_groups<STAGES - 2>/wait_for_groups<STAGES - 1>/'
mutate 'no barrier before a stage is copied to' ternary_tiles.cuh 's/__syncthreads();\n            begin(step/begin(step/'
mutate 'no barrier before the stages are written over' ternary_tiles.cuh \
    's/__syncthreads();\n#pragma unroll\n        for (int first/#pragma unroll\n        for (int first/'
mutate 'halves of a fragment exchanged' ternary_tiles.cuh 's/a\[i\]\[odd\]\[half + 2\]/a[i][odd][3 - half]/'
mutate 'odd columns twice' ternary_tiles.cuh 's/odd = word >> 2 \& 0x33333333u/odd = word \& 0x33333333u/'
mutate 'a row of codes past the last' ternary_tiles.cuh 's/row + i \* CODE_STEP < p.m/row + i * CODE_STEP <= p.m/'
mutate 'a column of few rows past the last' matmul_ternary.cu 's/row >= p.m || column >= p.n/row >= p.m || column > p.n/'
mutate 'a column past the last' matmul_ternary.cu 's/row < p.m && column + c < p.n/row < p.m \&\& column + c <= p.n/'
mutate 'four columns past the last' matmul_ternary.cu 's/= column + 16 \* j < p.n/= column + 16 * j <= p.n/'
mutate 'a row of a tile past the last' matmul_ternary.cu 's/if (at >= p.m) return/if (at > p.m) return/'
mutate 'columns in the order of the fragments' ternary_tiles.cuh 's/trits_of(column_of(\(.*\)));\n        }/trits_of(\1);\n        }/'
mutate 'a square of trits that is not turned' matmul_ternary.cu 's/side == 2 ? 0x0F0F0F0Fu/side == 2 ? 0u/'
mutate 'no barrier before the one row is read' ternary_rows.cuh 's/bring(p, x);\n        __syncthreads();/bring(p, x);/'
mutate 'a row of weights past the last' ternary_rows.cuh 's/static_cast<unsigned>(r) < rows/static_cast<unsigned>(r) <= rows/'
mutate 'a band of tiles that is too high' tiles.cuh 's/min(BAND, down - band \* BAND)/BAND/'
mutate 'a slab that is read before it is written' tiles.cuh 's/__syncwarp();\n#pragma unroll 1/\n#pragma unroll 1/'
mutate 'no barrier between stages of floats' float_tiles.cuh 's/if (part % 2) __syncthreads();//'
mutate 'no barrier after few rows are cleared' ternary_rows.cuh 's/of_block\[i\] = 0;\n            __syncthreads();/of_block[i] = 0;/'
mutate 'no barrier before few rows are read' ternary_rows.cuh \
    's/hand_over(sums, of_block);\n            __syncthreads();/hand_over(sums, of_block);/'
mutate 'a step of few rows that is multiplied again' ternary_rows.cuh 's/step = next;//'

check=check_kmeans
mutate 'centroids whose mean is read before it is there' kmeans.cu 's/__syncthreads();\n        sum = 0.0;/sum = 0.0;/'
mutate 'spreads that are read too early' kmeans.cu 's/= spread;\n    __syncthreads();/= spread;/'
mutate 'a centre that is never left' kmeans.cu 's/if (leave) return;/return;/'
mutate 'a verdict on the centre that is read too early' kmeans.cu 's/__syncthreads();\n    if (leave)/if (leave)/'
mutate 'a part of the bound left out' kmeans.cu 's/ + errors.each \* norm + errors.all/ + errors.all/'
mutate 'a bound that does not grow with the row' kmeans_scores.cu 's/__fmaf_rn(-norm\[r\], error.y, head.y)/head.y/'
mutate 'the same where rows are narrow' kmeans.cu 's/__fmaf_rn(-norms\[r\], error, head)/head/'
mutate 'a centroid past the last that is near' kmeans.cu 's/__uint_as_float(0x7F800000u);\n            heads/0.0f;\n            heads/'
mutate 'low parts of rows left out' kmeans_scores.cu 's/OF_A\[3\] = {1, 0, 0}/OF_A[3] = {0, 0, 0}/'
mutate 'low parts of centroids left out' kmeans_scores.cu 's/OF_B\[3\] = {0, 1, 0}/OF_B[3] = {0, 0, 0}/'
mutate 'parts of another plane' kmeans.cuh 's/pack_f16(__fsub_rn(x, rounded.x), __fsub_rn(y, rounded.y))/pack_f16(x, y)/'
mutate 'the last few centroids left out' kmeans_scores.cu 's/centroids - column + 15/centroids - column + 7/'
mutate 'a column of a half stage left out' kmeans_scores.cu 's/DEPTH > DEPTH \/ 2/DEPTH > DEPTH \/ 2 + 1/'
mutate 'the last column of a row left out' kmeans_scores.cu 's/if (left > 0) fours/if (left > 1) fours/'
mutate 'a row past the last' kmeans_scores.cu 's/first + at < p.count/first + at <= p.count/'
mutate 'rows that are not centred' kmeans_scores.cu 's/fours\[i\].y - less.y/fours[i].y/'
mutate 'stages of rows that are written over' kmeans_scores.cu 's/__syncthreads();\n        if (more) copy/if (more) copy/'
mutate 'stages of centroids that have not come' kmeans_scores.cu 's/wait_for_groups<0>/wait_for_groups<1>/'
mutate 'no barrier before what warps found is written' kmeans_scores.cu 's/__syncthreads();\n    write_found/write_found/'
mutate 'no barrier before what warps found is read' kmeans_scores.cu 's/__syncthreads();\n    if (last/if (last/'
mutate 'sums that are not begun anew' kmeans_scores.cu 's/sum\[0\] = sum\[1\] = 0.0f/sum[0] = 0.0f/'
mutate 'a second score that is forgotten' kmeans.cuh 's/fminf(fminf(second, other_second), fmaxf/fminf(second, fmaxf/'
mutate 'the slice of another block' kmeans.cu 's/blockIdx.y \* p.tiles_of_slice/0/'
mutate 'tiles of narrow rows that are written over' kmeans.cu 's/__syncthreads();\n            for (int i = threadIdx.x; i < TILE \* D/for (int i = threadIdx.x; i < TILE * D/'
mutate 'rows left to f64 too late' kmeans.cu 's/least.second > upper/least.second > least.first/'
mutate 'a slack left out' kmeans.cu 's/ + slack\[least.label\]//'
mutate 'the rounding of distances in f64 left out' kmeans.cu 's/ + squares \* ties//'
mutate 'infinite scores taken for distances' kmeans.cu 's/return least.second > upper/return !(least.second <= upper)/'
mutate 'a bound of the next centroid taken for that of the first' kmeans.cu 's/2.0 \* upper + square/2.0 * least.first + square/'
mutate 'a list with gaps' kmeans.cu 's/__popc(those \& ((1u << lane_number()) - 1))/lane_number()/'
mutate 'slices that are not all looked at' kmeans.cu 's/u64 slice = 0; slice < slices/u64 slice = 0; slice < 1/'
mutate 'the highest index of several' kmeans.cu 's/other.label < label/other.label > label/'
mutate 'a centroid past the last by f64' kmeans.cu 's/if (own + i < p.k)/if (true)/'
mutate 'a row by its place in the list' kmeans.cu 's/row = p.list ? p.list\[i\] : i/row = i/'
mutate 'no barrier before the nearest are read' kmeans.cu 's/__syncthreads();\n        if (threadIdx.x < EXACT_ROWS/if (threadIdx.x < EXACT_ROWS/'
mutate 'no barrier before the nearest are written' kmeans.cu 's/            }\n        }\n        __syncthreads();/            }\n        }/'
mutate 'a second distance that is forgotten' kmeans.cu 's/fmin(fmin(second, other.second), fmax/fmin(second, fmax/'
mutate 'stripes in another order' kmeans_update.cu 's/of_stripes\[stripe \*/of_stripes[(stripes - 1 - stripe) */'
mutate 'stripes that are one' kmeans_update.cu 's/if (row >= end)/if (end == 0)/'
mutate 'rows of a stripe left out' kmeans_update.cu 's/first = i == 0 ? 0 : place(i - 1) + 1/first = i == 0 ? 1 : place(i - 1) + 1/'
mutate 'numbers of more rows than there is room for' kmeans_update.cu 's/min(WAITING \/ width, WAITING_ROWS)/WAITING \/ width/'
mutate 'no barrier between the halves' kmeans_update.cu 's/__syncthreads();\n            if (first >= end)/if (first >= end)/'
mutate 'weights left out' kmeans_update.cu 's/__dmul_rn(weight, static_cast<double>(p.x\[row \* p.d + at\]))/static_cast<double>(p.x[row * p.d + at])/'
mutate 'a list that does not ascend' kmeans.cu 's/rows\[i\] <= rows\[i - 1\]/rows[i] < rows[i - 1]/'
mutate 'a fold that gives away the wrong half' kmeans_seed.cu 's/own = upper ? sums\[i + AWAY\] : sums\[i\]/own = sums[i]/'
mutate 'a block of a canonical sum that goes on' kmeans_seed.cu 's/sums\[i\] = 0.0f;/;/'
mutate 'blocks of a canonical sum that end with a chunk' kmeans_seed.cu 's/(column + CHUNK) % CANONICAL_BLOCK != 0 \&\& column/column/'
mutate 'candidates of the first chunk for all' kmeans_seed.cu 's/if (p.d <= CHUNK) kept = first/kept = first/'
mutate 'candidates of the first tile for all' kmeans_seed.cu 's/if (kept != first)/if (kept == p.m)/'
mutate 'columns past the last taken as they are' kmeans_seed.cu 's/x\[r\] = j < width ? rows/x[r] = j < (width + 31) \/ 32 * 32 ? rows/'
mutate 'no barrier before candidates are used' kmeans_seed.cu 's/__syncthreads();\n                        if (p.d/if (p.d/'
mutate 'no barrier before candidates are replaced' kmeans_seed.cu 's/__syncthreads();\n                        const bool there/const bool there/'
mutate 'no barrier before rows are chosen' kmeans_seed.cu 's/__syncthreads();\n            for (unsigned start = 0; start < count/for (unsigned start = 0; start < count/'
mutate 'rows that are not looked at left as they are' kmeans_seed.cu 's/p.lower\[c \* p.n + here\] = p.least\[here\];/;/'
mutate 'limits of another seed' kmeans_seed.cu 's/p.seeds + label\]/p.seeds]/'
mutate 'a candidate outside of x' kmeans_seed.cu 's/min(static_cast<u64>(p.candidates\[first + warp\]), p.n - 1)/p.candidates[first + warp]/'
mutate 'gains of several rows in one place' kmeans_seed.cu 's/place += __popc(those\[e\]);/;/'
mutate 'gains of all warps in one place' kmeans_seed.cu 's/if (w == warp) place = all;/;/'
mutate 'no barrier before gains are added up' kmeans_seed.cu 's/__syncthreads();\n            if (threadIdx.x != 0)/if (threadIdx.x != 0)/'
mutate 'no barrier before gains are counted' kmeans_seed.cu 's/__syncthreads();\n            unsigned place = 0/unsigned place = 0/'
mutate 'gains of the next stripe' kmeans_seed.cu 's/end = min(n, (number + 1) \* stripe)/end = n/'
mutate 'weights of gains left out' kmeans_seed.cu 's/gains\[e\] = weights ?/gains[e] = false ?/'
mutate 'the highest of several nearest first' kmeans_closest.cu 's/of_a < of_b/of_a > of_b/'
mutate 'a run that is not turned around' kmeans_closest.cu 's/(1u << kept) - 1 - at/at/'
mutate 'runs of which too little is kept' kmeans_closest.cu 's/kept = min(size, bits)/kept = min(size, bits ? bits - 1 : 0)/'
mutate 'the last run left out' kmeans_closest.cu 's/pairs = (k - 1 >> size + 1) + 1/pairs = k >> size + 1/'
mutate 'a team that does not meet' kmeans_closest.cu 's/else __syncthreads();/else __syncwarp();/'
mutate 'a warp that does not meet' kmeans_closest.cu 's/if (team == 32) __syncwarp();/if (team == 32) ;/'
mutate 'squares of the last rows twice' kmeans_closest.cu 's/if (lane % 8 == (r \* CENTROIDS + c) % 8 \&\& row + r < count \&\&/if (lane % 8 == (r * CENTROIDS + c) % 8 \&\&/'
mutate 'lanes of f64 that are not all folded' kmeans.cuh 's/away = 4; away > 0; away \/= 2/away = 4; away > 1; away \/= 2/'

check=check_step
mutate 'counts that are added too early' step.cu 's/    __syncthreads();\n    if (threadIdx.x < 2 \&\& found/    if (threadIdx.x < 2 \&\& found/'
mutate 'counts that are not begun' step.cu 's/__syncthreads();\n    clamped/clamped/'
mutate 'what is past the last held by the box' step.cu 's/if (share.has(k)) clamped += held;\n            else/clamped += held;\n            if (!share.has(k))/'
mutate 'what is past the last in the largest magnitude' step.cu 's/else part.p\[k\] = 0.0f;//'
mutate 'trits by half' step.cu 's/differ | differ >> 1/differ/'
mutate 'bins that are not begun' step.cu 's/__syncthreads();\n    each_block/each_block/'
mutate 'bins that are added too early' step.cu 's/    });\n    __syncthreads();/    });/'
mutate 'a scale of codes before the step' step.cu 's/parameter_scale(largest_of(part.p), part.p_scale)/part.p_scale/'
mutate 'trits of codes before their rounding' step.cu 's/part.p\[k\] = decode_p(byte, scale);//'
mutate 'terms that are read too early' step.cu 's/__syncthreads();\n            if (warp_number() < SUMS/if (warp_number() < SUMS/'
mutate 'terms that are written over' step.cu 's/__syncthreads();\n        }\n        sum = fold/}\n        sum = fold/'
mutate 'a tile of terms for all' step.cu 's/(start + base) \/ CODES/start \/ CODES/'
mutate 'terms past the last' step.cu 's/count = min(here - base, TILE)/count = TILE/'
mutate 'gradients of another size' step.cu 's/part.g\[k\] = __fmul_rn(part.g\[k\], rule.gradient_scale)/;/'
mutate 'a column that is another lane' step.cu 's/lanes\[own\]\[lane\] = sum/lanes[own][lane \/ 2 + 16 * (lane % 2)] = sum/'
mutate 'columns that are read too early' step.cu 's/__syncthreads();\n        const u64 column/const u64 column/'
mutate 'columns that are written over' step.cu 's/= all;\n        __syncthreads();/= all;/'
mutate 'rows past the last of a block' step.cu 's/row + 32 \* s < here ?/row + 32 * s < rows ?/'
mutate 'a unit of the next row' step.cu 's/gradient + row \* columns + first/gradient + row * columns/'
mutate 'units that are not all added' step.cu 's/min(units - base, 32ull)/min(units - base, 2ull)/'
mutate 'means of the other dimension' step.cu 's/is_row ? columns : rows/is_row ? rows : columns/'
mutate 'sums of rows that are read too early' step.cu 's/= found;\n        __syncthreads();/= found;/'
mutate 'sums of rows that are written over' step.cu 's/sums\[warp\]);\n        }\n        __syncthreads();/sums[warp]);\n        }/'
mutate 'a scale that loses NaN' step.cuh 's/scale < LEAST_SCALE ? LEAST_SCALE : scale/scale >= LEAST_SCALE ? scale : LEAST_SCALE/'
mutate 'a code of v that becomes 0' step.cuh 's/max(code, 1) : code/code : code/'
mutate 'a scale that does not stay' step.cuh 's/__fmul_rn(before, 90.0f)/__fmul_rn(before, 120.0f)/'
mutate 'random numbers of another lane' step.cuh 's/16 \* half + lane_number() \/ 2/16 * half + lane_number() % 16/'
mutate 'random numbers in another order' step.cuh 's/16 \* (k % 2) \& 0xFFFFu/16 * (1 - k % 2) \& 0xFFFFu/'
mutate 'four elements of another place' step.cuh 's/k \/ 4 \* 128 + 4/k \/ 4 * 124 + 4/'
mutate 'vectors that are not aligned' step.cuh 's/here == CODES \&\& is_aligned(data, bytes)/here == CODES/'
mutate 'vectors past the last' step.cuh 's/here == CODES \&\& is_aligned/is_aligned/'
mutate 'factors of the next row' step.cuh 's/if (++column == states.columns) ++row, column = 0;/++column;/'
mutate 'fours of factors that end with a row' step.cuh 's/ \&\& states.columns % 4 == 0//'
mutate 'the bin below the first octave' step.cuh 's/ - (1 << 20);/;/'
mutate 'a trit that comes back' step.cuh 's/q < -h ? infinity : //'
mutate 'a step that goes the wrong way' step.cuh 's/move_by > 0.0f ? p : -p/move_by > 0.0f ? -p : p/'

wait
unnoticed=$(find "$folder" -name unnoticed | wc -l)
[ "$unnoticed" = 0 ] || { echo "$unnoticed mutations were not noticed" >&2; exit 1; }
