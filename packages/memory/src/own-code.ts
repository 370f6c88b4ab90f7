let copies = 0

/**
 * A copy of `factory` with code of its own. V8 compiles a closure for the very objects that it holds, as if they were constants, as long as its code
 * made only that one (function context specialization): so what a copy makes, once, has no load and no check for an object that never
 * changes, nor for the fields of such an object that never do. It pays for a loop of some ns; each copy is compiled for itself.
 *
 * `factory` uses nothing but its parameters and globals. Where code may not be made from strings, it is answered itself: that does the same, slower.
 */
export function withOwnCode<F extends (...args: never[]) => unknown>(factory: F): F {
  try {
    // V8 knows a text again that it has seen.
    return new Function(`return ${factory}\n//# sourceURL=uaccel/${factory.name}-${++copies}`)() as F
  } catch (error) {
    if (error instanceof EvalError) return factory
    throw error
  }
}
