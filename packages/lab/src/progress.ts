/** What the lab is doing, for somebody who waits. */
export interface LabProgress {
  stage: 'fetch' | 'unpack' | 'build' | 'boot' | 'run'
  message: string
  /** 0 to 1, where it is known. */
  fraction?: number
}

export type OnProgress = (progress: LabProgress) => void
