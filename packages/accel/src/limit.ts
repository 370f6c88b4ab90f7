import { accelError } from '@uaccel/uapi'

/** What `work` gives, or `ERR_ACCEL_TIMEOUT` naming `what` after `limitMs`. */
export async function within<T>(work: Promise<T>, limitMs: number, what: string): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const expired = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(
      () => reject(accelError('ERR_ACCEL_TIMEOUT', `${what} did not end within ${limitMs} ms`)),
      limitMs,
    )
  })
  try {
    return await Promise.race([work, expired])
  } finally {
    clearTimeout(timer)
  }
}

/** What `work`, which never rejects, gives; `undefined` when it takes longer than `limitMs`. */
export async function settled<T>(work: Promise<T>, limitMs: number): Promise<T | undefined> {
  let timer: NodeJS.Timeout | undefined
  const expired = new Promise<undefined>((resolve) => {
    timer = setTimeout(() => resolve(undefined), limitMs)
  })
  try {
    return await Promise.race([work, expired])
  } finally {
    clearTimeout(timer)
  }
}
