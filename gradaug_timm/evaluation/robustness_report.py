"""Output of errors under corruption and attack: a table, a CSV file and a picture."""
import csv
import os

from ..files import replacing

CLEAN = 'clean'


def title(path: str) -> str:
    """Return the name of a checkpoint in tables: folder and file, or `pretrained` for timm's weights."""
    return '/'.join(path.split(os.sep)[-2:]) or 'pretrained'


def error_rows(results: list[dict]) -> list[list[str]]:
    """Tabulate a row for each figure and a column for each checkpoint."""
    names = [name for name, value in results[0].items() if isinstance(value, (int, float))]
    rows = [['error (%)', *(title(result['checkpoint']) for result in results)]]
    heads = {'top1_err': CLEAN, 'corruption_err': 'mean of corruptions', 'mce': 'mCE', 'relative_mce': 'relative mCE'}
    return rows + [[heads.get(name, name.removesuffix('_err')), *(_shown(result.get(name)) for result in results)]
                   for name in names]


def _shown(value: float | None) -> str:
    return '-' if value is None else f'{value:.2f}'


def write_robustness(results: list[dict], folder: str) -> None:
    """Write errors.csv, with a row for each checkpoint, corruption and severity, and the picture errors.png.

    Both say where the corrupted images are from.
    """
    os.makedirs(folder, exist_ok=True)
    with replacing(os.path.join(folder, 'errors.csv'), newline='') as file:
        writer = csv.DictWriter(file, ('checkpoint', 'corruption', 'severity', 'error', 'corruptions'))
        writer.writeheader()
        writer.writerows({'checkpoint': result['checkpoint'], **row, 'corruptions': result.get('corruptions')}
                         for result in results for row in result['errors'])
    _draw(results, os.path.join(folder, 'errors.png'))


def _draw(results: list[dict], path: str) -> None:
    import matplotlib
    matplotlib.use('Agg')
    from matplotlib import pyplot
    errors = [{name: value for name, value in result.items() if not name.endswith('mce')} for result in results]
    rows = error_rows(errors)[1:]
    figure, axes = pyplot.subplots(figsize=(max(6, 0.6 * len(rows)), 5), layout='constrained')
    width = 0.8 / len(results)
    for column, result in enumerate(results):
        places = [place + column * width for place in range(len(rows))]
        axes.bar(places, [float(row[1 + column]) for row in rows], width, label=title(result['checkpoint']))
    axes.set_xticks([place + 0.4 - width / 2 for place in range(len(rows))], [row[0] for row in rows], rotation=60,
                    ha='right')
    axes.set_ylabel('top-1 error (%)')
    if results[0].get('corruptions'):
        axes.set_title(f'corruptions: {results[0]["corruptions"]}', fontsize='medium')
    axes.legend()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
