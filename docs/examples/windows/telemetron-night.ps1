# The job of the night, for task.xml. The date names the run, so that a later try continues it.
$program = "C:\telemetron\venv\Scripts\telemetron-batch.exe"
$run = "night-$(Get-Date -Format yyyy-MM-dd)"
for ($try = 1; $try -le 20; $try++) {
    & $program run C:\erp\assignments.csv --run-id $run --reports-dir C:\telemetron\reports `
        --api-key-file C:\telemetron\api-key --min-rows 1000 --max-failed 5% --quiet 2>> C:\telemetron\night.log
    # 3: stopped before the end; 6: another process has the run or the key
    if ($LASTEXITCODE -notin 3, 6) { break }
    Start-Sleep -Seconds 900
}
exit $LASTEXITCODE
