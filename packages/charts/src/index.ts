/**
 * Pictures of numbers. A chart is a `Scene`, plain data: `toSvg` prints it as a document, a page may build elements from it.
 * Knows nothing of models and jobs, needs no DOM and no other package.
 * @module
 */
export { heatmap, heatmapLayout, type Heatmap, type HeatmapLayout } from './heatmap.js';
export { tokenGrid, type GridToken, type TokenGrid } from './token-grid.js';
export { histogram, type HistogramChart } from './histogram.js';
export { lineChart, type LineChart, type Series } from './line-chart.js';
export { barChart, stackedBar, type BarChart, type Share } from './bars.js';
export { toTerminal, barsToTerminal, sparkline } from './terminal.js';
export { display, type Displayable } from './display.js';
export { toSvg, type Attributes, type Scene, type SceneNode } from './scene.js';
export { THEMES, type Theme } from './theme.js';
export { CATEGORIES, DIVERGING, SEQUENTIAL, colourAt, css, inkOn, type Rgb, type ScaleName } from './colour.js';
export { domainOf, position, ticks, type Domain } from './domain.js';
export { summarise, histogramOf, type Histogram, type Summary } from './statistics.js';
export { gridToCsv, rowsToCsv } from './csv.js';
export { formatNumber, formatTicks, legible, shorten, visible } from './text.js';
export { rasterUrl } from './raster.js';
