export { areaY, dot, gridX, gridY, lineY, plot, rectX, rectY, ruleX, ruleY, text, tickX } from "@observablehq/plot";
export {
  Virtualizer,
  elementScroll,
  observeElementOffset,
  observeElementRect,
} from "@tanstack/virtual-core";
