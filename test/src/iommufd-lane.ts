import { existsSync } from 'node:fs'
import { type IommuKind, iommuKinds } from '@uaccel/core'
import { findLab } from '@uaccel/lab'
import type { Test } from 'tap'

/** One of the kernel's interfaces to the IOMMU, and why tests cannot run over it. */
export interface Lane {
  readonly iommu: IommuKind
  readonly skip: string | false
}

/** In the guest: distributions build kernels without iommufd (seen in Debian's 6.1, 6.12 and 7.2). */
export function lanes(): Lane[] {
  const lacking = existsSync('/dev/iommu') ? false : 'this kernel has no /dev/iommu'
  return iommuKinds.map((iommu) => ({ iommu, skip: iommu === 'iommufd' && lacking }))
}

/** On the host: whether the guest boots the lab's own kernel, which has all that the tests want. */
export async function smallKernel(): Promise<boolean> {
  const source = (await findLab()).kernel?.source
  return source === 'UACCEL_LAB_KERNEL' || source === 'built'
}

/**
 * On the host: repeats the guest's top-level results, in order, with its skips as skips of this run. In CI the lab's
 * small kernel has no excuse.
 */
export async function repeatResults(t: Test, tap: string, names: readonly string[]): Promise<void> {
  const small = await smallKernel()
  const results = [...tap.matchAll(/^(ok|not ok) \d+ - (.*?)(?: # time=.*| # SKIP ?(.*))?$/gm)]
  t.strictSame(
    results.map(([, , name]) => name),
    names,
  )
  for (const [, end, name, reason] of results) {
    const skip = end === 'ok' && reason !== undefined && !(process.env.CI && small) && reason
    t.test(name!, { skip }, async (t) => {
      t.equal(end, 'ok')
      t.equal(reason, undefined, 'not skipped')
    })
  }
}
