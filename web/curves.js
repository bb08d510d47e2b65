// The strength over a run, as sampling/schedule.py computes it. A test holds the two equal.

export const CURVES = {
  constant: () => 0,
  linear: (share) => share,
  cosine: (share) => (1 - Math.cos(Math.PI * share)) / 2,
  sigmoid: (share) => (Math.tanh(6 * share - 3) / Math.tanh(3) + 1) / 2,
};

// The factor at `percent` (0..1) of the run; `schedule` has the values of a Delta Schedule by name.
export function factor(schedule, percent) {
  const { start_percent: start, end_percent: end, strength_start: first, strength_end: last } = schedule;
  if (percent < start || percent > end) return 0;
  const share = (percent - start) / Math.max(end - start, 1e-9);
  return first + (last - first) * CURVES[schedule.curve](share);
}
