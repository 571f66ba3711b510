"""Where results go: a CSV or JSON file, and stdout in the form that timm's tools read."""
import csv
import json


def write_results(path: str, results: dict | list[dict], *, format: str = 'csv') -> None:
    """Writes one model's results, or those of several."""
    with open(path, mode='w', newline='') as file:
        if format == 'json':
            json.dump(results, file, indent=4)
            return
        rows = results if isinstance(results, list) else [results]
        writer = csv.DictWriter(file, fieldnames=rows[0] if rows else ())
        writer.writeheader()
        writer.writerows(rows)


def print_results(results: dict | list[dict]) -> None:
    """Prints the results as JSON below a line `--result`."""
    print(f'--result\n{json.dumps(results, indent=4)}')
