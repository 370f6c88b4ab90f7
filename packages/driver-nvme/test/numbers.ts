/** A generator of numbers below a bound: the same each time. */
export function numbers(seed: number): (below: number) => number {
  let state = seed >>> 0
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0 // Numerical Recipes' generator
    return Math.floor((state / 2 ** 32) * below)
  }
}

/** Puts bytes into memory of which each block says which it is. */
export function fill(bytes: Uint8Array, seed: number): void {
  const next = numbers(seed)
  for (let i = 0; i < bytes.length; i++) bytes[i] = next(256)
}

/** Words that worker threads of the suite share with it: commands that ended well; 1 to end a load. */
export const Word = { DONE: 0, STOP: 1 } as const
