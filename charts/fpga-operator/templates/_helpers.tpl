{{/*
Labels of every object; `component` tells the parts apart: operator, registry, registry-proxy, emulator, device-plugin.
Call with (dict "root" $ "component" "…").
*/}}
{{- define "accel.selector" -}}
app.kubernetes.io/name: fpga-operator
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "accel.labels" -}}
{{ include "accel.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end }}

{{/* The image called `name`; rendering fails where none is given. Call with (dict "root" $ "name" "…"). */}}
{{- define "accel.image" -}}
{{- required (printf "images.%s is empty: give the image's full reference (docs/install.md says how to build it)" .name) (index .root.Values.images .name) -}}
{{- end }}

{{- define "accel.pullSecrets" -}}
{{- with .Values.images.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end }}

{{- define "accel.placement" -}}
{{- with .nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* What the pod security level `restricted` asks of a pod, and of a container. */}}
{{- define "accel.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "accel.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{/*
Root without any right: the kubelet's sockets and the host's folders belong to root, so the emulator and the device
plugin run as uid 0; they hold no capability, cannot gain one, and see nothing of the host but the folders mounted.
*/}}
{{- define "accel.nodePodSecurity" -}}
runAsUser: 0
runAsGroup: 0
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "accel.registryEndpoint" -}}
{{- if .Values.registry.enabled -}}
http://registry.{{ .Release.Namespace }}.svc:5000
{{- else -}}
{{ required "registry.external.endpoint is empty, and registry.enabled is false: models and images need a registry" .Values.registry.external.endpoint }}
{{- end }}
{{- end }}

{{- define "accel.registryNodeName" -}}
{{- if .Values.registry.enabled -}}
localhost:{{ .Values.proxy.port }}
{{- else -}}
{{ required "registry.external.nodeName is empty, and registry.enabled is false: nodes need a name to pull from" .Values.registry.external.nodeName }}
{{- end }}
{{- end }}

{{- define "accel.masterKeySecret" -}}
{{ .Values.operator.masterKey.existingSecret | default "fpga-operator-master-key" }}
{{- end }}
