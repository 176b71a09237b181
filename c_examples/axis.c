#include "axis.h"

#include <math.h>

double axis_distance(double range)
{
    double power = pow(10, floor(log10(range / 6)));
    double digit = range / 6 / power;
    return power * (digit < 1.5 ? 1 : digit < 3.5 ? 2 : digit < 7.5 ? 5 : 10);
}
