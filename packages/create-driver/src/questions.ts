import { cancel, intro, isCancel, text } from '@clack/prompts'
import { CreateError } from './errors.js'
import { DEFAULT_DEVICE, DEFAULT_VENDOR } from './index.js'
import { formatId, namesOf, parseId } from './names.js'

/** What the command line said, as text. */
export interface Answers {
  name?: string | undefined
  vendor?: string | undefined
  device?: string | undefined
}

export const defaults = {
  name: 'my-npu',
  vendor: `0x${formatId(DEFAULT_VENDOR)}`,
  device: `0x${formatId(DEFAULT_DEVICE)}`,
} as const

/** Asks on the terminal for what was not said. Undefined where the user gave up. */
export async function ask(given: Answers): Promise<Required<Answers> | undefined> {
  const questions = {
    name: { message: 'What is your package called?', check: (answer: string) => namesOf(answer) },
    vendor: {
      message: 'PCI vendor id, as lspci -n prints it? Any, as long as there is only a model',
      check: (answer: string) => parseId(answer, 'vendor'),
    },
    device: { message: 'PCI device id?', check: (answer: string) => parseId(answer, 'device') },
  }
  const answers: Answers = { ...given }
  intro('A driver, a model of its device and their tests, in a package of your own')
  for (const [key, { message, check }] of Object.entries(questions) as [
    keyof Answers,
    typeof questions.name,
  ][]) {
    if (answers[key] !== undefined) continue
    const answer = await text({
      message,
      placeholder: defaults[key],
      defaultValue: defaults[key],
      validate: (answer) => complaint(check, answer || defaults[key]),
    })
    if (isCancel(answer)) {
      cancel('Nothing was made.')
      return undefined
    }
    answers[key] = answer
  }
  return answers as Required<Answers>
}

function complaint(check: (answer: string) => unknown, answer: string): string | undefined {
  try {
    check(answer)
    return undefined
  } catch (error) {
    if (error instanceof CreateError) return error.message
    throw error
  }
}
