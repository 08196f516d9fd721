// The arithmetic of the stage: how many columns make the images largest; among equals the squarest grid, wide rather than
// tall. Sizes in CSS pixels.

export const LARGEST_ENLARGEMENT = 4;

export function bestGrid(count, width, height, natural, gap) {
  const ratio = natural.width / natural.height;
  let best = { columns: 1, width: 0, skew: Infinity };
  for (let columns = 1; columns <= count; columns++) {
    const rows = Math.ceil(count / columns);
    const across = (width - gap * (columns + 1)) / columns;
    const down = (height - gap * (rows + 1)) / rows;
    const cell = Math.min(across, down * ratio, natural.width * LARGEST_ENLARGEMENT);
    const skew = Math.abs(columns - rows);
    if (cell > best.width || (cell === best.width && skew <= best.skew)) best = { columns, width: cell, skew };
  }
  return { columns: best.columns, width: Math.floor(best.width), height: Math.floor(best.width / ratio) };
}

// On a narrow window a grid that shows less than half of an image's pixels across loses to one image a swipe.
export function wantsSwipe(grid, windowWidth, natural) {
  return windowWidth <= 600 && grid.width < Math.min(natural.width / 2, windowWidth * 0.8);
}
