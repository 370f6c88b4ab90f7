/** Trainable numbers and the state that Adam keeps for each (Kingma and Ba, 2015, algorithm 1). */
export class Parameter {
  readonly value: Float32Array
  readonly gradient: Float32Array
  readonly #mean: Float32Array
  readonly #variance: Float32Array

  constructor(length: number) {
    this.value = new Float32Array(length)
    this.gradient = new Float32Array(length)
    this.#mean = new Float32Array(length)
    this.#variance = new Float32Array(length)
  }

  /** He initialisation: a normal distribution of variance 2 / fanIn. */
  randomise(fanIn: number, random: () => number): this {
    const deviation = Math.sqrt(2 / fanIn)
    for (let i = 0; i < this.value.length; i++) {
      const radius = Math.sqrt(-2 * Math.log(1 - random()))
      this.value[i] = deviation * radius * Math.cos(2 * Math.PI * random())
    }
    return this
  }

  /** One step of Adam with the gradient summed over `batch` images; clears the gradient. `step` counts from 1. */
  update(rate: number, batch: number, step: number): void {
    const correctMean = 1 / (1 - 0.9 ** step)
    const correctVariance = 1 / (1 - 0.999 ** step)
    for (let i = 0; i < this.value.length; i++) {
      const gradient = this.gradient[i] / batch
      this.#mean[i] += 0.1 * (gradient - this.#mean[i])
      this.#variance[i] += 0.001 * (gradient * gradient - this.#variance[i])
      this.value[i] -=
        (rate * this.#mean[i] * correctMean) / (Math.sqrt(this.#variance[i] * correctVariance) + 1e-8)
    }
    this.gradient.fill(0)
  }
}

/** A layer holds the activations of one image: `forward` fills `output`, `backward` turns its gradient into the input's. */
export interface Layer {
  readonly output: Float32Array
  readonly outputGradient: Float32Array
  readonly parameters: readonly Parameter[]
  forward(input: Float32Array): void
  /** Adds to the parameters' gradients; writes the input's gradient where one is asked for. */
  backward(input: Float32Array, inputGradient: Float32Array | undefined): void
}

/** Convolution of kernel 3x3, stride 1, padding 1, then ReLU. Channels first. */
export class ConvRelu implements Layer {
  readonly weights: Parameter
  readonly bias: Parameter
  readonly output: Float32Array
  readonly outputGradient: Float32Array
  readonly outputs: number
  readonly #inputs: number
  readonly #size: number
  /** One row per (input channel, kernel place), one column per pixel: convolution becomes a matrix product. */
  readonly #columns: Float32Array
  readonly #columnsGradient: Float32Array

  constructor(inputs: number, outputs: number, size: number, random: () => number) {
    this.#inputs = inputs
    this.outputs = outputs
    this.#size = size
    this.weights = new Parameter(outputs * inputs * 9).randomise(inputs * 9, random)
    this.bias = new Parameter(outputs)
    this.output = new Float32Array(outputs * size * size)
    this.outputGradient = new Float32Array(outputs * size * size)
    this.#columns = new Float32Array(inputs * 9 * size * size)
    this.#columnsGradient = new Float32Array(inputs * 9 * size * size)
  }

  get parameters() {
    return [this.weights, this.bias]
  }

  /** Calls `visit` with (index into columns, index into the image) of each element that is not padding. */
  #eachColumn(visit: (column: number, pixel: number) => void): void {
    const size = this.#size
    let row = 0
    for (let channel = 0; channel < this.#inputs; channel++) {
      for (let ky = -1; ky <= 1; ky++) {
        for (let kx = -1; kx <= 1; kx++, row += size * size) {
          for (let y = Math.max(0, -ky); y < Math.min(size, size - ky); y++) {
            for (let x = Math.max(0, -kx); x < Math.min(size, size - kx); x++) {
              visit(row + y * size + x, (channel * size + y + ky) * size + x + kx)
            }
          }
        }
      }
    }
  }

  forward(input: Float32Array): void {
    const columns = this.#columns
    this.#eachColumn((column, pixel) => {
      columns[column] = input[pixel]
    })
    const pixels = this.#size ** 2
    const rows = this.#inputs * 9
    for (let o = 0; o < this.outputs; o++) {
      const out = this.output.subarray(o * pixels, (o + 1) * pixels).fill(this.bias.value[o])
      for (let r = 0; r < rows; r++) {
        const weight = this.weights.value[o * rows + r]
        for (let p = 0, c = r * pixels; p < pixels; p++, c++) out[p] += weight * columns[c]
      }
      for (let p = 0; p < pixels; p++) if (out[p] < 0) out[p] = 0
    }
  }

  backward(_input: Float32Array, inputGradient: Float32Array | undefined): void {
    const pixels = this.#size ** 2
    const rows = this.#inputs * 9
    const columns = this.#columns
    const columnsGradient = this.#columnsGradient.fill(0)
    for (let o = 0; o < this.outputs; o++) {
      const gradient = this.outputGradient.subarray(o * pixels, (o + 1) * pixels)
      let sum = 0
      for (let p = 0; p < pixels; p++) {
        if (this.output[o * pixels + p] <= 0) gradient[p] = 0
        sum += gradient[p]
      }
      this.bias.gradient[o] += sum
      for (let r = 0; r < rows; r++) {
        const weight = this.weights.value[o * rows + r]
        let product = 0
        if (inputGradient) {
          for (let p = 0, c = r * pixels; p < pixels; p++, c++) {
            product += gradient[p] * columns[c]
            columnsGradient[c] += weight * gradient[p]
          }
        } else {
          for (let p = 0, c = r * pixels; p < pixels; p++, c++) product += gradient[p] * columns[c]
        }
        this.weights.gradient[o * rows + r] += product
      }
    }
    if (inputGradient) {
      inputGradient.fill(0)
      this.#eachColumn((column, pixel) => {
        inputGradient[pixel] += columnsGradient[column]
      })
    }
  }
}

/** Maximum over 2x2 windows, stride 2. */
export class MaxPool implements Layer {
  readonly parameters: readonly Parameter[] = []
  readonly output: Float32Array
  readonly outputGradient: Float32Array
  readonly #winner: Uint32Array
  readonly #channels: number
  readonly #size: number

  constructor(channels: number, size: number) {
    this.#channels = channels
    this.#size = size
    this.output = new Float32Array((channels * size * size) / 4)
    this.outputGradient = new Float32Array(this.output.length)
    this.#winner = new Uint32Array(this.output.length)
  }

  forward(input: Float32Array): void {
    const size = this.#size
    let at = 0
    for (let channel = 0; channel < this.#channels; channel++) {
      for (let y = 0; y < size; y += 2) {
        for (let x = 0; x < size; x += 2, at++) {
          const corner = (channel * size + y) * size + x
          let best = corner
          if (input[corner + 1] > input[best]) best = corner + 1
          if (input[corner + size] > input[best]) best = corner + size
          if (input[corner + size + 1] > input[best]) best = corner + size + 1
          this.#winner[at] = best
          this.output[at] = input[best]
        }
      }
    }
  }

  backward(_input: Float32Array, inputGradient: Float32Array | undefined): void {
    if (!inputGradient) return
    inputGradient.fill(0)
    for (let i = 0; i < this.#winner.length; i++) inputGradient[this.#winner[i]] += this.outputGradient[i]
  }
}

/** Fully connected layer, with bias and ReLU or without both. Weights are outputs x inputs. */
export class Dense implements Layer {
  readonly weights: Parameter
  readonly bias: Parameter | undefined
  readonly output: Float32Array
  readonly outputGradient: Float32Array
  readonly inputs: number
  readonly outputs: number

  constructor(inputs: number, outputs: number, { relu }: { relu: boolean }, random: () => number) {
    this.inputs = inputs
    this.outputs = outputs
    this.weights = new Parameter(outputs * inputs).randomise(inputs, random)
    this.bias = relu ? new Parameter(outputs) : undefined
    this.output = new Float32Array(outputs)
    this.outputGradient = new Float32Array(outputs)
  }

  get parameters() {
    return this.bias ? [this.weights, this.bias] : [this.weights]
  }

  forward(input: Float32Array): void {
    const weights = this.weights.value
    for (let o = 0, w = 0; o < this.outputs; o++) {
      let sum = this.bias ? this.bias.value[o] : 0
      for (let i = 0; i < this.inputs; i++, w++) sum += weights[w] * input[i]
      this.output[o] = this.bias ? Math.max(0, sum) : sum
    }
  }

  backward(input: Float32Array, inputGradient: Float32Array | undefined): void {
    inputGradient?.fill(0)
    for (let o = 0; o < this.outputs; o++) {
      const gradient = this.bias && this.output[o] <= 0 ? 0 : this.outputGradient[o]
      if (gradient === 0) continue
      if (this.bias) this.bias.gradient[o] += gradient
      const base = o * this.inputs
      for (let i = 0; i < this.inputs; i++) this.weights.gradient[base + i] += gradient * input[i]
      if (inputGradient) {
        for (let i = 0; i < this.inputs; i++) inputGradient[i] += gradient * this.weights.value[base + i]
      }
    }
  }
}

/** The network of this example: about 0.67 million multiplications an image. */
export class DigitNetwork {
  readonly conv1: ConvRelu
  readonly conv2: ConvRelu
  readonly hidden: Dense
  readonly logits: Dense
  readonly layers: readonly Layer[]

  constructor(random: () => number) {
    this.conv1 = new ConvRelu(1, 12, 28, random)
    this.conv2 = new ConvRelu(12, 24, 14, random)
    this.hidden = new Dense(24 * 7 * 7, 64, { relu: true }, random)
    this.logits = new Dense(64, 10, { relu: false }, random)
    this.layers = [this.conv1, new MaxPool(12, 28), this.conv2, new MaxPool(24, 14), this.hidden, this.logits]
  }

  /** The ten scores of one image of 784 pixels in 0..1, valid until the next call. */
  forward(image: Float32Array): Float32Array {
    let value = image
    for (const layer of this.layers) {
      layer.forward(value)
      value = layer.output
    }
    return value
  }

  /** Adds the gradient of one image's cross-entropy to the parameters, after `forward` of the same image. */
  backward(image: Float32Array, label: number): void {
    const scores = this.logits.output
    const highest = Math.max(...scores)
    const exponentials = Float32Array.from(scores, (score) => Math.exp(score - highest))
    const sum = exponentials.reduce((total, value) => total + value, 0)
    for (let i = 0; i < scores.length; i++) {
      this.logits.outputGradient[i] = exponentials[i] / sum - (i === label ? 1 : 0)
    }
    for (let i = this.layers.length - 1; i >= 0; i--) {
      const before = this.layers[i - 1]
      this.layers[i].backward(before ? before.output : image, before?.outputGradient)
    }
  }
}
